"""Every exception of the package, and what may be done about it.

    OperatorError
    ├── Unavailable            no answer, or one that asks to come back: try again later
    │   ├── KubernetesUnavailable
    │   └── PrefectUnavailable
    │       └── PrefectUntrusted
    ├── Refused                an answer, and it is no: repeating the request changes nothing
    │   ├── KubernetesRefused
    │   │   └── SecretRefused
    │   └── PrefectRefused
    │       └── PrefectRedirects
    ├── RenderError            template and values give no Job
    └── BindingFault           something the binding's status must show

Nothing else crosses a module's edge. Prefect's `Abort` and `Pause`, which are BaseExceptions, never
arise here: states are set through the API's plain answers (`prefect_api.client`).
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
    """The server understood and declined; `status` is the HTTP code (0 where the request could not
    even be sent), `reason` its short name."""

    def __init__(self, message: str, *, status: int, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Cause:
    """One of the places that the Kubernetes API refuses, as it writes them."""

    field: str
    message: str
    reason: str = ""


class KubernetesUnavailable(Unavailable):
    """The Kubernetes API did not answer, or answered 429 or 5xx."""


class KubernetesRefused(Refused):
    """The Kubernetes API answered 4xx; `reason` is metav1.Status' (`NotFound`, `Forbidden`), and
    `causes` are the fields that it names."""

    def __init__(
        self, message: str, *, status: int, reason: str = "", causes: Iterable[Cause] = ()
    ) -> None:
        super().__init__(message, status=status, reason=reason)
        self.causes = tuple(causes)


class SecretRefused(KubernetesRefused):
    """It is the Secret that goes with a Job which the Kubernetes API refused, not the Job."""

    def __init__(self, refused: KubernetesRefused) -> None:
        text = f"the Secret for its environment: {refused}"
        super().__init__(text, status=refused.status, reason=refused.reason)


class PrefectUnavailable(Unavailable):
    """The Prefect API did not answer, or answered 408, 429 or 5xx."""


class PrefectUntrusted(PrefectUnavailable):
    """The certificate of the Prefect API is not trusted."""


class PrefectRefused(Refused):
    """The Prefect API answered 4xx, or with what is not the answer of a Prefect API."""


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


class BindingFault(OperatorError):
    """A condition that is not True: its type, CamelCase reason, and a message with the fix;
    `partial` where due runs are claimed all the same."""

    def __init__(self, condition: str, reason: str, message: str, *, partial: bool = False) -> None:
        super().__init__(message)
        self.condition = condition
        self.reason = reason
        self.partial = partial
