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
    at_capacity: bool = False
    synced: bool = False


class Conditions:
    """The verdicts of one binding, in the order in which they must hold."""

    def __init__(self) -> None:
        self._verdicts: dict[str, Verdict] = {}

    def holds(self, condition: str, reason: str, message: str = "") -> None:
        self._verdicts[condition] = Verdict("True", reason, message)

    def fails(self, condition: str, reason: str, message: str) -> None:
        self._verdicts[condition] = Verdict("False", reason, message)

    def forget_after(self, condition: str) -> None:
        """What comes after `condition` is not known any more."""
        for later in ORDER[ORDER.index(condition) + 1 :]:
            self._verdicts.pop(later, None)

    def all_hold(self) -> bool:
        return all(verdict.status == "True" for verdict in self.verdicts().values())

    def verdicts(self) -> dict[str, Verdict]:
        """Every condition but Ready."""
        found: dict[str, Verdict] = {}
        missing = ""
        for condition in ORDER:
            unknown = Verdict(
                "Unknown", "NotChecked", f"Known once {missing or condition} is True."
            )
            verdict = self._verdicts.get(condition, unknown)
            found[condition] = verdict
            if verdict.status != "True" and not missing:
                missing = condition
        return found


def ready(verdicts: Mapping[str, Verdict], situation: Situation) -> Verdict:
    """True only when a due run would be picked up now, or waits for something that is no fault."""
    for verdict in verdicts.values():
        if verdict.status == "False":
            return verdict
    if any(verdict.status == "Unknown" for verdict in verdicts.values()) or not situation.synced:
        return Verdict(
            "Unknown", "Starting", "The operator is looking at the server and the cluster."
        )
    if situation.suspended:
        return Verdict("True", "Suspended", "spec.suspend is true: no new runs are claimed.")
    if situation.pool_paused:
        return Verdict("True", "PoolPaused", "The work pool is paused in Prefect: resume it there.")
    if situation.at_capacity:
        return Verdict(
            "True", "AtCapacity", "As many Jobs are in flight as concurrencyLimit allows."
        )
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
