"""The binding's conditions: what must hold before a run can be picked up, in order. Pure.

Ready is their summary: a due run would be picked up, or waits for something that is no fault; the
first condition that does not hold is its reason. Claiming says whether due runs are claimed now.
Whatever comes after a condition that does not hold is Unknown, because it cannot be known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

SERVER_RESOLVED = "ServerResolved"
CREDENTIALS_VALID = "CredentialsValid"
SERVER_REACHABLE = "ServerReachable"
WORK_POOL_FOUND = "WorkPoolFound"
TEMPLATE_VALID = "TemplateValid"
JOBS_PERMITTED = "JobsPermitted"
READY = "Ready"
CLAIMING = "Claiming"

# They say what is worth knowing, and have no part in Ready.
EVENTS_CONNECTED = "EventsConnected"
POOL_SHARED = "PoolShared"

ORDER = (
    SERVER_RESOLVED,
    CREDENTIALS_VALID,
    SERVER_REACHABLE,
    WORK_POOL_FOUND,
    TEMPLATE_VALID,
    JOBS_PERMITTED,
)


@dataclass(frozen=True, slots=True)
class ConditionState:
    """A condition's status (True, False, Unknown), CamelCase reason, and message with the fix.

    `is_partial`: it is False for a part only, and due runs of the rest are claimed.
    """

    status: str
    reason: str
    message: str = ""
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class ServingState:
    """What decides about Ready and Claiming besides the conditions."""

    suspended: bool = False
    pool_paused: bool = False
    full_at: int | None = None  # the concurrencyLimit, where every slot is taken
    synced: bool = False
    stopped: bool = False
    unserved: ConditionState | None = None  # why the binding is not served at all


class Conditions:
    """The verdicts of one binding, in the order in which they must hold."""

    def __init__(self) -> None:
        self._verdicts: dict[str, ConditionState] = {}

    def set_true(self, condition: str, reason: str, message: str) -> None:
        """Set the condition to True."""
        self._verdicts[condition] = ConditionState("True", reason, message)

    def set_false(
        self, condition: str, reason: str, message: str, *, partial: bool = False
    ) -> None:
        """What comes after `condition` is not known any more, unless it fails for a part only."""
        self._verdicts[condition] = ConditionState("False", reason, message, partial)
        if partial:
            return
        for later in ORDER[ORDER.index(condition) + 1 :]:
            self._verdicts.pop(later, None)

    def all_true(self) -> bool:
        """Return whether every condition is True."""
        return all(verdict.status == "True" for verdict in self.states().values())

    def allow_claims(self) -> bool:
        """All hold, or fail for a part only."""
        return all(v.status == "True" or v.is_partial for v in self.states().values())

    def get(self, condition: str) -> ConditionState:
        """What is known of one of them."""
        return self.states()[condition]

    def has_fault(self) -> bool:
        """Something is known to be wrong."""
        return any(verdict.status == "False" for verdict in self._verdicts.values())

    def states(self) -> dict[str, ConditionState]:
        """Every condition but Ready."""
        found: dict[str, ConditionState] = {}
        for condition in ORDER:
            found[condition] = self._verdicts.get(condition) or _unknown(found)
        return found


def _unknown(earlier: Mapping[str, ConditionState]) -> ConditionState:
    failed = next((name for name, v in earlier.items() if v.status == "False"), None)
    text = f"Known once {failed} is True." if failed else "Not known yet."
    return ConditionState("Unknown", "NotChecked", text)


def ready(verdicts: Mapping[str, ConditionState], situation: ServingState) -> ConditionState:
    """True when a due run would be picked up now, or waits for something that is no fault."""
    failed = (verdict for verdict in verdicts.values() if verdict.status == "False")
    return (
        situation.unserved
        or next(failed, None)
        or _unknown_yet(verdicts, situation)
        or _waiting(situation)
        or ConditionState("True", "Polling", "Due runs are picked up.")
    )


def claiming(verdicts: Mapping[str, ConditionState], situation: ServingState) -> ConditionState:
    """True only when due runs are claimed now; else the reason why not, a fault or none."""
    failed = [verdict for verdict in verdicts.values() if verdict.status == "False"]
    blocking = [verdict for verdict in failed if not verdict.is_partial]
    if said := situation.unserved or next(iter(blocking), None):
        return said
    if unknown := _unknown_yet(verdicts, situation):
        return unknown
    if waiting := _waiting(situation):
        return replace(waiting, status="False")
    for verdict in failed:
        text = f"Due runs of the other queues are claimed. {verdict.message}"
        return ConditionState("True", verdict.reason, text)
    return ConditionState("True", "Polling", "Due runs are claimed.")


def _unknown_yet(
    verdicts: Mapping[str, ConditionState], situation: ServingState
) -> ConditionState | None:
    if situation.stopped:
        text = "The operator was stopped: runs wait, Jobs that exist go on. Start it again."
        return ConditionState("Unknown", "OperatorStopped", text)
    if any(verdict.status == "Unknown" for verdict in verdicts.values()) or not situation.synced:
        return ConditionState(
            "Unknown", "Starting", "The operator is looking at the server and the cluster."
        )
    return None


def _waiting(situation: ServingState) -> ConditionState | None:
    """Why no run is claimed although nothing is wrong."""
    if situation.suspended:
        text = "spec.suspend is true: no run is claimed. Jobs that exist are followed to their end."
        return ConditionState("True", "Suspended", text)
    if situation.pool_paused:
        text = "The work pool is paused in Prefect: no run is claimed until it is resumed there."
        return ConditionState("True", "PoolPaused", text)
    if situation.full_at is not None:
        text = f"As many Jobs are in flight as spec.concurrencyLimit allows: {situation.full_at}."
        return ConditionState("True", "AtCapacity", text)
    return None


def events_connected(lost: str | None, *, interval: int) -> ConditionState:
    """`lost` says why the event stream is not open; None where it is, "" where it opens yet."""
    if lost == "":
        return ConditionState("Unknown", "Connecting", "The operator opens Prefect's event stream.")
    if lost is None:
        return ConditionState(
            "True", "Listening", "Runs are claimed as soon as Prefect schedules them."
        )
    text = f"Prefect's event stream is not open ({lost}): due runs are found by polling, every "
    text += f"{interval} s. A proxy in front of the server must let websockets through."
    return ConditionState("False", "PollingOnly", text)


def defect(error: BaseException, *, doing: str) -> tuple[str, str]:
    """Reason and message of what the operator did not foresee. Never the error's own text, which
    may quote a value."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = f"The operator failed {doing} ({type(error).__name__}) and tries again. "
    return "InternalError", text + "Its log has the traceback: please report it."


def as_status(
    verdicts: Mapping[str, ConditionState],
    *,
    before: Iterable[Mapping[str, Any]],
    generation: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """metav1.Conditions; `lastTransitionTime` moves only when the status does."""
    known = {condition.get("type"): condition for condition in before}
    return [
        {
            "type": name,
            "status": verdict.status,
            "reason": verdict.reason,
            "message": verdict.message,
            "observedGeneration": generation,
            "lastTransitionTime": _transition(known.get(name), verdict, now),
        }
        for name, verdict in verdicts.items()
    ]


def _transition(before: Mapping[str, Any] | None, verdict: ConditionState, now: datetime) -> str:
    if before and before.get("status") == verdict.status and before.get("lastTransitionTime"):
        return str(before["lastTransitionTime"])
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
