"""Every exception of the package, and what may be done about it.

    OperatorError
    ├── Unavailable            no answer, or one that asks to come back: try again later
    │   ├── KubernetesUnavailable
    │   └── PrefectUnavailable
    │       └── PrefectUntrusted
    ├── Refused                an answer, and it is no: repeating the request changes nothing
    │   ├── KubernetesRefused
    │   │   ├── KubernetesBadRequest    400
    │   │   ├── KubernetesUnauthorized  401
    │   │   ├── KubernetesForbidden     403
    │   │   ├── KubernetesNotFound      404
    │   │   ├── KubernetesConflict      409
    │   │   ├── KubernetesGone          410
    │   │   ├── KubernetesInvalid       422
    │   │   └── SecretRefused
    │   └── PrefectRefused
    │       ├── PrefectUnauthorized     401
    │       ├── PrefectForbidden        403
    │       ├── PrefectNotFound         404
    │       └── PrefectRedirects        3xx
    ├── RenderError            template and values give no Job
    ├── DeploymentNotFound     a claimed run's deployment was deleted: the run has no Job
    └── BindingFault           something the binding's status must show

The two clients alone know HTTP codes: their callers catch a type. Nothing else crosses a module's
edge. Prefect's `Abort` and `Pause`, which are BaseExceptions, never arise here: states are set
through the API's plain answers (`prefect_api.client`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class OperatorError(Exception):
    """Base of all; its text is one sentence for a person."""


class Unavailable(OperatorError):
    """No usable answer: the request may or may not have had its effect.

    `retry_after` is the number of seconds that the server asked to wait, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(OperatorError):
    """The server understood and declined."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One of the places that the Kubernetes API refuses, as it writes them."""

    field: str
    message: str
    reason: str = ""


class KubernetesUnavailable(Unavailable):
    """The Kubernetes API did not answer, or answered 429 or 5xx."""


class KubernetesRefused(Refused):
    """The Kubernetes API answered 4xx; `causes` are the fields that it names."""

    def __init__(self, message: str, *, causes: Iterable[Cause] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class KubernetesBadRequest(KubernetesRefused):
    """The API server cannot read the request, or an admission webhook denies it."""


class KubernetesUnauthorized(KubernetesRefused):
    """The API server does not accept the operator's credentials."""


class KubernetesForbidden(KubernetesRefused):
    """The operator lacks a right, or an admission plugin (a quota, a policy) denies the object."""


class KubernetesNotFound(KubernetesRefused):
    """The object, its namespace or its resource type does not exist."""


class KubernetesConflict(KubernetesRefused):
    """An object of that name exists, or it is not the one of the precondition."""


class KubernetesGone(KubernetesRefused):
    """The resource version to go on from is too old: list again."""


class KubernetesInvalid(KubernetesRefused):
    """The object fails validation."""


class SecretRefused(KubernetesRefused):
    """The Kubernetes API refused the Secret of a Job's environment; `refusal` is its answer."""

    def __init__(self, refusal: KubernetesRefused) -> None:
        super().__init__(f"the Secret for its environment: {refusal}")
        self.refusal = refusal


class PrefectUnavailable(Unavailable):
    """The Prefect API did not answer, or answered 408, 429 or 5xx."""


class PrefectUntrusted(PrefectUnavailable):
    """The certificate of the Prefect API is not trusted."""


class PrefectRefused(Refused):
    """The Prefect API answered 4xx, or with what is not the answer of a Prefect API; `status` is
    the HTTP code for messages, 0 where the request could not even be sent."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class PrefectUnauthorized(PrefectRefused):
    """The Prefect API asks for credentials, or does not accept these."""


class PrefectForbidden(PrefectRefused):
    """The Prefect API denies the request to these credentials."""


class PrefectNotFound(PrefectRefused):
    """The Prefect API itself says that there is no such object."""


class PrefectRedirects(PrefectRefused):
    """The request was sent elsewhere, and is not sent there: a POST would become a GET.

    `to` is the whole address of the API that would have answered it, else the other server's alone
    (`is_api` tells which).
    """

    def __init__(self, message: str, *, status: int, to: str, is_api: bool) -> None:
        super().__init__(message, status=status)
        self.to = to
        self.is_api = is_api


class RenderError(OperatorError):
    """No Job can be made; `path` names the place in the template or in the values."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


class DeploymentNotFound(OperatorError):
    """The deployment of a claimed run was deleted: the run is cancelled, as by Prefect's worker."""


class BindingFault(OperatorError):
    """A condition that is not True: its type, CamelCase reason, and a message with the fix;
    `partial` where due runs are claimed all the same."""

    def __init__(self, condition: str, reason: str, message: str, *, partial: bool = False) -> None:
        super().__init__(message)
        self.condition = condition
        self.reason = reason
        self.partial = partial
