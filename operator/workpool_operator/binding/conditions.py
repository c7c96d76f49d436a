"""The conditions of a binding, in the order in which they are checked. Pure.

Ready summarises them: it is True if due runs are claimed or wait for something that is not a fault;
otherwise its reason is that of the first False condition. Claiming is True if due runs are claimed
now. Conditions after a False one are Unknown, because they cannot be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from workpool_operator.kube import rights
from workpool_operator.runs.capacity import Shortage

SERVER_RESOLVED = "ServerResolved"
CREDENTIALS_VALID = "CredentialsValid"
SERVER_REACHABLE = "ServerReachable"
WORK_POOL_FOUND = "WorkPoolFound"
TEMPLATE_VALID = "TemplateValid"
JOBS_PERMITTED = rights.JOBS_PERMITTED
READY = "Ready"
CLAIMING = "Claiming"
DUE_RUNS_ARE_CLAIMED = "Due runs are claimed."  # all of them, as far as is known

# For information: they do not affect Ready.
EVENTS_CONNECTED = "EventsConnected"
POOL_SHARED = "PoolShared"
TEMPLATE_SYNCED = "TemplateSynced"
RIGHTS_GRANTED = rights.RIGHTS_GRANTED
VERIFICATION_SKIPPED = "VerificationSkipped"
CRD_OUTDATED = "CRDOutdated"

ORDER = (
    SERVER_RESOLVED,
    CREDENTIALS_VALID,
    SERVER_REACHABLE,
    WORK_POOL_FOUND,
    TEMPLATE_VALID,
    JOBS_PERMITTED,
)
NEEDED_FOR_RUNS = ORDER[: ORDER.index(WORK_POOL_FOUND)]
NEEDED_TO_POLL = ORDER[: ORDER.index(TEMPLATE_VALID)]


@dataclass(frozen=True, slots=True)
class ConditionState:
    """A condition's status (True, False, Unknown), CamelCase reason, and message with the fix.

    `is_partial`: it is False for a part of the binding only, and due runs of the rest are claimed.
    """

    status: str
    reason: str
    message: str = ""
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class ServingState:
    """What Ready and Claiming depend on besides the conditions.

    `shortage` says why further runs wait although nothing is wrong. `overdue_since` is the time of
    the last successful poll, if another one should have followed it. `unserved` says why the
    binding has no session, `deletion` what its deletion waits for. `behind_pool_limit` and
    `behind_deployment_limit` are the numbers of due runs that wait for a concurrency limit of
    Prefect's: that of the pool or of a work queue, and that of their deployment.
    """

    suspended: bool = False
    pool_paused: bool = False
    shortage: Shortage | None = None
    synced: bool = False
    overdue_since: datetime | None = None
    stopped: bool = False
    unserved: ConditionState | None = None
    deletion: ConditionState | None = None
    behind_pool_limit: int = 0
    behind_deployment_limit: int = 0


#: Written by the operator that served the binding, before another one may take its Lease.
NOT_SELECTED = ConditionState(
    "Unknown",
    "NotSelected",
    "The binding's labels no longer match the selector of the operator that served it: new runs "
    "wait, existing Jobs continue. Give it labels that an operator selects (run --selector).",
)


UNCHECKED = ConditionState("Unknown", "NotChecked", "Not checked until the server answers.")


class Conditions:
    """The results of one binding's preflight checks, in the order of the checks."""

    def __init__(self) -> None:
        self._known: dict[str, ConditionState] = {}

    def set_true(self, condition: str, reason: str, message: str) -> None:
        """Set the condition to True."""
        self._known[condition] = ConditionState("True", reason, message)

    def set_false(
        self, condition: str, reason: str, message: str, *, partial: bool = False
    ) -> None:
        """Set the condition to False and the later ones to Unknown, unless `partial`."""
        self._known[condition] = ConditionState("False", reason, message, partial)
        if partial:
            return
        for later in ORDER[ORDER.index(condition) + 1 :]:
            self._known.pop(later, None)

    def all_true(self) -> bool:
        """Return whether every condition is True."""
        return all(state.status == "True" for state in self.states().values())

    def allow_claims(self) -> bool:
        """Return whether every condition is True, or False for a part only."""
        return all(state.status == "True" or state.is_partial for state in self.states().values())

    def get(self, condition: str) -> ConditionState:
        """Return the state of one condition."""
        return self.states()[condition]

    def has_fault(self) -> bool:
        """Return whether a condition is False."""
        return any(state.status == "False" for state in self._known.values())

    def states(self) -> dict[str, ConditionState]:
        """Return every checked condition in order, without Ready and Claiming."""
        states: dict[str, ConditionState] = {}
        for condition in ORDER:
            states[condition] = self._known.get(condition) or _not_checked(states)
        return states


def _not_checked(earlier: Mapping[str, ConditionState]) -> ConditionState:
    failed = next((name for name, state in earlier.items() if state.status == "False"), None)
    text = f"Not checked until {failed} is True." if failed else "Not checked yet."
    return ConditionState("Unknown", "NotChecked", text)


def ready(states: Mapping[str, ConditionState], serving: ServingState) -> ConditionState:
    """Return Ready: True if due runs are claimed or wait for something that is not a fault."""
    failed = (state for state in states.values() if state.status == "False")
    return (
        serving.unserved
        or next(failed, None)
        or _unknown(states, serving)
        or _waiting(serving)
        or ConditionState("True", "Polling", DUE_RUNS_ARE_CLAIMED)
    )


def claiming(states: Mapping[str, ConditionState], serving: ServingState) -> ConditionState:
    """Return Claiming: True if due runs are claimed now, otherwise why they are not."""
    failed = [state for state in states.values() if state.status == "False"]
    blocking = [state for state in failed if not state.is_partial]
    if held := serving.unserved or serving.deletion or next(iter(blocking), None):
        return held
    if unknown := _unknown(states, serving):
        return unknown
    if waiting := _waiting(serving):
        return replace(waiting, status="False")
    for state in failed:
        text = f"Due runs of the other queues are claimed. {state.message}"
        return ConditionState("True", state.reason, text)
    return ConditionState("True", "Polling", _limited_by_prefect(serving) or DUE_RUNS_ARE_CLAIMED)


def _limited_by_prefect(serving: ServingState) -> str:
    """Return for which limits of Prefect due runs wait, "" if for none."""
    limits = (
        (serving.behind_pool_limit, "that of the work pool or of a work queue"),
        (serving.behind_deployment_limit, "that of their deployment"),
    )
    waiting = " and ".join(f"{count} for {limit}" for count, limit in limits if count)
    if not waiting:
        return ""
    return (
        f"Due runs are claimed as far as Prefect's concurrency limits allow. Of those that wait, "
        f"{waiting}. `workpool-operator explain RUN` names the runs that take the slots."
    )


def _unknown(states: Mapping[str, ConditionState], serving: ServingState) -> ConditionState | None:
    """Return Unknown with the reason while the checks are incomplete, otherwise None."""
    if serving.stopped:
        text = "The operator is stopped: new runs wait, existing Jobs continue. Start it again."
        return ConditionState("Unknown", "OperatorStopped", text)
    if any(state.status == "Unknown" for state in states.values()) or not serving.synced:
        text = "The operator is checking the Prefect server and reading the cluster's Jobs."
        return ConditionState("Unknown", "Starting", text)
    if serving.overdue_since:
        text = (
            f"The server answers, but no poll of the work pool has succeeded since "
            f"{serving.overdue_since:%H:%M:%S} UTC. The operator polls at once. If this stays, its "
            "log says why the polls fail."
        )
        return ConditionState("Unknown", "PollOverdue", text)
    return None


def _waiting(serving: ServingState) -> ConditionState | None:
    """Return the reason if no runs are claimed although there is no fault, otherwise None."""
    if serving.deletion:
        text = "The binding is being deleted; condition Claiming says which runs it waits for."
        return ConditionState("True", serving.deletion.reason, text)
    if serving.suspended:
        text = "spec.suspend is true: no runs are claimed. Existing Jobs are followed to their end."
        return ConditionState("True", "Suspended", text)
    if serving.pool_paused:
        text = "The work pool is paused in Prefect: no runs are claimed until it is resumed there."
        return ConditionState("True", "PoolPaused", text)
    if serving.shortage:
        return ConditionState("True", serving.shortage.reason, serving.shortage.message)
    return None


def events_connected(lost: str | None, *, interval: int) -> ConditionState:
    """Return EventsConnected. `lost` says why Prefect's event stream is not open, "" if it has not
    been tried yet, None if it is open. `interval` is the number of seconds between polls."""
    if lost == "":
        text = "The operator is opening Prefect's event stream."
        return ConditionState("Unknown", "Connecting", text)
    if lost is None:
        text = "Runs are claimed as soon as Prefect schedules them."
        return ConditionState("True", "Listening", text)
    text = (
        f"Prefect's event stream is not open ({lost}): the operator finds due runs by polling, "
        f"every {interval} s. A proxy in front of the server must let websockets through."
    )
    return ConditionState("False", "PollingOnly", text)


def verification_skipped(url: str, *, verify: bool) -> ConditionState:
    """Return VerificationSkipped, for the server's address and whether its certificate is
    verified."""
    if not url:
        return ConditionState("Unknown", "NotChecked", "Not checked until ServerResolved is True.")
    if not url.startswith("https:"):
        return ConditionState("False", "NoTLS", "The server is called without TLS.")
    if verify:
        return ConditionState("False", "Verified", "The server's certificate is verified.")
    text = (
        "spec.server.tls.insecureSkipVerify is true: whoever can answer in place of the server "
        "gets the credentials. Name the CA that signed its certificate in spec.server.caBundle "
        "instead."
    )
    return ConditionState("True", "InsecureSkipVerify", text)


def internal_error(error: BaseException, *, task: str) -> tuple[str, str]:
    """Return reason and message for a bug in the operator that made it fail to do `task`.

    The message does not quote the error, whose text may contain a secret.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "InternalError", (
        f"The operator failed to {task} ({type(error).__name__}) and tries again. This is a bug: "
        "please report it with the traceback from the operator's log."
    )


def list_first(items: Sequence[str], *, most: int) -> str:
    """Return the first `most` items and the number of the others, for a message in a terminal."""
    more = f" (and {len(items) - most} more)" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def as_status(
    states: Mapping[str, ConditionState],
    *,
    before: Iterable[Mapping[str, Any]],
    generation: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """Return metav1.Conditions, whose `lastTransitionTime` changes only with the status.

    `before` are the conditions that the binding has.
    """
    known = {condition.get("type"): condition for condition in before}
    return [
        {
            "type": name,
            "status": state.status,
            "reason": state.reason,
            "message": state.message,
            "observedGeneration": generation,
            "lastTransitionTime": _transition_time(known.get(name), state, now),
        }
        for name, state in states.items()
    ]


def _transition_time(before: Mapping[str, Any] | None, state: ConditionState, now: datetime) -> str:
    if before and before.get("status") == state.status and before.get("lastTransitionTime"):
        return str(before["lastTransitionTime"])
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
