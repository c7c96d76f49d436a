"""The exceptions of the package, and what a caller can do about each.

    OperatorError
    ├── Unavailable            no usable answer: try again later
    │   ├── KubernetesUnavailable
    │   │   └── KubernetesThrottled
    │   ├── LeaseNotHeld       another replica may serve the binding: do not act
    │   └── PrefectUnavailable
    │       ├── PrefectThrottled
    │       ├── PrefectUntrusted
    │       └── PrefectDisconnected
    ├── Refused                the server refused the request: repeating it does not help
    │   ├── KubernetesRefused
    │   │   ├── KubernetesBadRequest    400
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
    │       ├── PrefectConflict         409
    │       └── PrefectRedirects        3xx
    ├── RenderError            template and values do not render to a Job
    │   └── PatchRejected      a patch of the binding cannot change the Job
    ├── DeploymentNotFound     the deployment of a claimed run was deleted: the run gets no Job
    └── BindingFault           a fault that the binding's status reports

Only the two clients know HTTP codes; their callers catch a type. The clients raise nothing else.
Prefect's `Abort` and `Pause`, which are BaseExceptions, cannot occur: `prefect_api.client` reads
the API's plain answer to a proposed state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_RETRY_AFTER_SECONDS = 60.0  # a server that names hours is asked again after a minute


class OperatorError(Exception):
    """Base class. The text is one sentence that people read.

    `retry_after` is the number of seconds after which to try again, if the server named one.
    """

    retry_after: float | None = None


class Unavailable(OperatorError):
    """No usable answer: the request may or may not have had its effect."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after and min(retry_after, LONGEST_RETRY_AFTER_SECONDS)


class Refused(OperatorError):
    """The server understood the request and refused it."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that the Kubernetes API rejects, in the API's own words."""

    field: str
    message: str
    reason: str = ""


class KubernetesUnavailable(Unavailable):
    """The Kubernetes API did not answer, or answered 401, 408, 429 or 5xx. While a control plane
    starts, it accepts no credentials (401)."""


class KubernetesThrottled(KubernetesUnavailable):
    """The Kubernetes API limits the rate of requests (429): this one had no effect."""


class LeaseNotHeld(Unavailable):
    """This replica does not hold the binding's Lease at this moment; nothing was written."""

    def __init__(self) -> None:
        super().__init__("this replica does not hold the binding's Lease")


class KubernetesRefused(Refused):
    """The Kubernetes API answered 4xx; `causes` are the fields that it names."""

    def __init__(self, message: str, *, causes: Iterable[Cause] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class KubernetesBadRequest(KubernetesRefused):
    """The API server cannot parse the request, or an admission webhook denies it."""


class KubernetesForbidden(KubernetesRefused):
    """The operator lacks a right, or an admission plugin (a quota, a policy) denies the object."""


class KubernetesNotFound(KubernetesRefused):
    """The object, its namespace or its resource type does not exist."""


class KubernetesConflict(KubernetesRefused):
    """An object of that name exists, or the object does not match the precondition."""


class KubernetesGone(KubernetesRefused):
    """The resource version to watch from is too old: list again."""


class KubernetesInvalid(KubernetesRefused):
    """The object fails validation."""


class SecretRefused(KubernetesRefused):
    """The Kubernetes API refused the Secret of a Job's environment; `refusal` is its answer."""

    def __init__(self, refusal: KubernetesRefused) -> None:
        super().__init__(f"the Secret for its environment: {refusal}")
        self.refusal = refusal


class PrefectUnavailable(Unavailable):
    """The Prefect API did not answer, or answered 408, 429 or 5xx."""


class PrefectThrottled(PrefectUnavailable):
    """The Prefect API limits the rate of requests (429): this one had no effect, or was not
    sent."""


class PrefectUntrusted(PrefectUnavailable):
    """The certificate of the Prefect API is not trusted."""


class PrefectDisconnected(PrefectUnavailable):
    """The connection was closed without an answer, as a server does that requires a client
    certificate."""


class PrefectRefused(Refused):
    """The Prefect API answered 4xx, or the answer is not that of a Prefect API.

    `status` is the HTTP code, for messages; 0 if the request could not be sent.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class PrefectUnauthorized(PrefectRefused):
    """The Prefect API requires credentials, or does not accept those that were sent."""


class PrefectForbidden(PrefectRefused):
    """The credentials do not allow the request."""


class PrefectNotFound(PrefectRefused):
    """The Prefect API itself (not a gateway) answered that the object does not exist."""


class PrefectConflict(PrefectRefused):
    """An object of that name exists."""


class PrefectRedirects(PrefectRefused):
    """The server redirects, which is not followed: a POST would become a GET.

    If `is_api`, `to` is the address of the API there; otherwise it is that of the server alone.
    """

    def __init__(self, message: str, *, status: int, to: str, is_api: bool) -> None:
        super().__init__(message, status=status)
        self.to = to
        self.is_api = is_api


class RenderError(OperatorError):
    """No Job can be rendered; `path` names the field of the template or of the values."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


class PatchRejected(RenderError):
    """A patch of the binding cannot be applied, or changes what must stay as it is; `path` names
    it."""


class DeploymentNotFound(OperatorError):
    """The deployment of a claimed run was deleted. The run is cancelled, as by Prefect's worker."""


class BindingFault(OperatorError):
    """A condition that is False: its type, CamelCase reason, and a message with the fix.

    `partial`: it concerns a part of the binding, and due runs of the rest are claimed.
    """

    def __init__(self, condition: str, reason: str, message: str, *, partial: bool = False) -> None:
        super().__init__(message)
        self.condition = condition
        self.reason = reason
        self.partial = partial
