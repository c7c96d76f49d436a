"""Decides when a binding that is being deleted has waited long enough for its runs. Pure.

By `spec.deletionPolicy` Drain or Cancel it waits for the runs in flight; by Orphan for none. The
wait ends without them if, for five minutes, nothing shows whether they end, or only a server that
cannot be used could end them: a finalizer must not stay until a person removes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from workpool_operator.binding.conditions import ConditionState
from workpool_operator.clock import Clock

STUCK_SECONDS = 300.0
REPORT_SECONDS = 60.0  # for reports of the last ends, once nothing is in flight
IDLE_SECONDS = 2.0  # after a restart, history shows some claims a moment later


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a deletion waits for.

    `running` and `pending` count the runs in flight, `executing` those with Jobs or pods that have
    not ended, `unreported` the Jobs that ended without a report to Prefect. `unseen` says why these
    numbers cannot be trusted, `unusable` why the Prefect server cannot be used; both are ""
    otherwise.
    """

    policy: str
    running: int = 0
    pending: int = 0
    executing: int = 0
    unreported: int = 0
    unseen: str = ""
    unusable: str = ""

    @property
    def is_idle(self) -> bool:
        """Whether no run is in flight."""
        return not (self.unseen or self.running or self.pending)

    @property
    def obstacle(self) -> str:
        """Why the runs in flight do not end, or are not seen to end; "" if nothing hinders them."""
        ends_by_itself = self.policy != "Cancel" and self.executing > 0
        return self.unseen or ("" if self.is_idle or ends_by_itself else self.unusable)


class Deletion:
    """The progress of one binding's deletion. `key` is its NAMESPACE/NAME."""

    def __init__(self, key: str, clock: Clock) -> None:
        self._namespace, _, self._name = key.partition("/")
        self._clock = clock
        self._idle_since: float | None = None
        self._stuck_since: float | None = None
        self._left = Remaining("")

    def observe(self, left: Remaining) -> None:
        """Take note of what is left."""
        self._left, now = left, self._clock.monotonic()
        self._idle_since = _since(self._idle_since, now, holds=left.is_idle)
        self._stuck_since = _since(self._stuck_since, now, holds=bool(left.obstacle))

    @property
    def has_begun(self) -> bool:
        """Whether anything was observed."""
        return bool(self._left.policy)

    @property
    def is_over(self) -> bool:
        """Whether the finalizer can be removed."""
        if self._idle_since is None:
            return self.is_abandoned
        limit = REPORT_SECONDS if self._left.unreported else IDLE_SECONDS
        return self._clock.monotonic() - self._idle_since >= limit

    @property
    def is_abandoned(self) -> bool:
        """Whether the runs in flight are not waited for any longer."""
        stuck = self._stuck_since
        return stuck is not None and self._clock.monotonic() - stuck >= STUCK_SECONDS

    def state(self) -> ConditionState:
        """Return Claiming: what the deletion waits for, and how to end the wait."""
        left, obstacle = self._left, self._left.obstacle.rstrip(".")
        runs = f"{left.running} running and {left.pending} pending runs"
        if self.is_abandoned:
            text = (
                f"The binding is deleted although {'runs' if left.unseen else runs} may be in "
                f"flight, because this was so for {STUCK_SECONDS:.0f} s: {obstacle}. Jobs that are "
                "left continue, and nothing reports how they end."
            )
            return ConditionState("False", "DeletionTimedOut", text)
        cancels = left.policy == "Cancel"
        what = "the runs in flight are cancelled" if cancels else "no runs are claimed"
        text = f"The binding is being deleted (deletionPolicy {left.policy}): {what}. "
        if not left.unseen:
            text += f"It waits for {runs}" + (
                f" and for reports about {left.unreported} ended Jobs. "
                if left.unreported
                else ". "
            )
        if obstacle:
            text += f"{obstacle}; after {STUCK_SECONDS:.0f} s it waits no longer. "
        text += (
            f"To delete it now and leave its Jobs: kubectl -n {self._namespace} patch wpb "
            f'{self._name} --type=merge --patch \'{{"spec":{{"deletionPolicy":"Orphan"}}}}\''
        )
        return ConditionState("False", "Cancelling" if cancels else "Draining", text)


def _since(before: float | None, now: float, *, holds: bool) -> float | None:
    """Return since when it holds, None if it does not."""
    if not holds:
        return None
    return now if before is None else before
