"""The binding's conditions: what must hold before a run can be picked up, in order. Pure.

Ready is the summary: the first condition that does not hold is its reason. Whatever comes after a
condition that does not hold is Unknown, because it cannot be known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

SERVER_RESOLVED = "ServerResolved"
CREDENTIALS_VALID = "CredentialsValid"
SERVER_REACHABLE = "ServerReachable"
WORK_POOL_FOUND = "WorkPoolFound"
TEMPLATE_VALID = "TemplateValid"
JOBS_PERMITTED = "JobsPermitted"
READY = "Ready"

ORDER = (
    SERVER_RESOLVED,
    CREDENTIALS_VALID,
    SERVER_REACHABLE,
    WORK_POOL_FOUND,
    TEMPLATE_VALID,
    JOBS_PERMITTED,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition's status (True, False, Unknown), CamelCase reason, and message with the fix."""

    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is no failure and still worth a word: Ready is True with this as its reason."""

    suspended: bool = False
    pool_paused: bool = False
    full_at: int | None = None  # the concurrencyLimit, where every slot is taken
    synced: bool = False
    stopped: bool = False


class Conditions:
    """The verdicts of one binding, in the order in which they must hold."""

    def __init__(self) -> None:
        self._verdicts: dict[str, Verdict] = {}

    def holds(self, condition: str, reason: str, message: str) -> None:
        self._verdicts[condition] = Verdict("True", reason, message)

    def fails(self, condition: str, reason: str, message: str) -> None:
        """What comes after `condition` is not known any more."""
        self._verdicts[condition] = Verdict("False", reason, message)
        for later in ORDER[ORDER.index(condition) + 1 :]:
            self._verdicts.pop(later, None)

    def all_hold(self) -> bool:
        return all(verdict.status == "True" for verdict in self.verdicts().values())

    def fault(self) -> bool:
        """Something is known to be wrong."""
        return any(verdict.status == "False" for verdict in self._verdicts.values())

    def verdicts(self) -> dict[str, Verdict]:
        """Every condition but Ready."""
        found: dict[str, Verdict] = {}
        for condition in ORDER:
            found[condition] = self._verdicts.get(condition) or _unknown(found)
        return found


def _unknown(earlier: Mapping[str, Verdict]) -> Verdict:
    failed = next((name for name, verdict in earlier.items() if verdict.status == "False"), None)
    text = f"Known once {failed} is True." if failed else "Not known yet."
    return Verdict("Unknown", "NotChecked", text)


def ready(verdicts: Mapping[str, Verdict], situation: Situation) -> Verdict:
    """True only when a due run would be picked up now, or waits for something that is no fault."""
    for verdict in verdicts.values():
        if verdict.status == "False":
            return verdict
    if situation.stopped:
        text = "The operator was stopped: runs wait, Jobs that exist go on. Start it again."
        return Verdict("Unknown", "OperatorStopped", text)
    if any(verdict.status == "Unknown" for verdict in verdicts.values()) or not situation.synced:
        return Verdict(
            "Unknown", "Starting", "The operator is looking at the server and the cluster."
        )
    return _serving(situation)


def _serving(situation: Situation) -> Verdict:
    if situation.suspended:
        text = "spec.suspend is true: no run is claimed. Jobs that exist are followed to their end."
        return Verdict("True", "Suspended", text)
    if situation.pool_paused:
        text = "The work pool is paused in Prefect: no run is claimed until it is resumed there."
        return Verdict("True", "PoolPaused", text)
    if situation.full_at is not None:
        text = f"As many Jobs are in flight as spec.concurrencyLimit allows: {situation.full_at}."
        return Verdict("True", "AtCapacity", text)
    return Verdict("True", "Polling", "Due runs are picked up.")


def as_status(
    verdicts: Mapping[str, Verdict],
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


def _transition(before: Mapping[str, Any] | None, verdict: Verdict, now: datetime) -> str:
    if before and before.get("status") == verdict.status and before.get("lastTransitionTime"):
        return str(before["lastTransitionTime"])
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
