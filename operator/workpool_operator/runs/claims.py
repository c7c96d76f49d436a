"""A claim of ours on a run, and what the run's states prove about it. Pure.

Only the history proves whose claim stands behind a named sub-state or a running flow: the current
state's own ids belong to whoever wrote it last (docs/races.md, 3).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from workpool_operator.jobs import names
from workpool_operator.jobs.diagnosis import INFRASTRUCTURE_RETRY
from workpool_operator.prefect_api.models import Run, State

# By how much the clocks of a server's replicas may differ: states are in the order of these.
CLOCK_SKEW = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Claim:
    """This binding's claim on a run: `id` is that of the Pending state it made."""

    id: UUID
    timestamp: datetime | None = None
    scheduled_time: datetime | None = None
    lease_id: UUID | None = None

    @classmethod
    def of(cls, state: State) -> Claim | None:
        """Return the claim that made the state; None for a state that has no id."""
        if state.id is None:
            return None
        details = state.state_details
        return cls(
            id=state.id,
            timestamp=state.timestamp,
            scheduled_time=details.scheduled_time,
            lease_id=details.deployment_concurrency_lease_id,
        )

    def substate_id(self, name: str) -> UUID:
        """Return the transition id of this claim's sub-state of that name."""
        return names.substate_transition_id(claim_id=self.id, name=name)

    def made(self, job_name: str, *, run_id: UUID) -> bool:
        """Return whether the name is that of this claim's Job."""
        return names.is_job_name(job_name, run_id=run_id, claim_id=self.id)


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run together with the claim of ours that it is under."""

    run: Run
    claim: Claim

    @property
    def recorded_namespace(self) -> str:
        """The namespace of the claim's Job as Prefect has it, "" if it was not recorded: the run
        may still have the `infrastructure_pid` of an earlier attempt."""
        namespace, _, name = (self.run.infrastructure_pid or "").partition(":")
        return namespace if self.claim.made(name, run_id=self.run.id) else ""


def recorded_job(run: Run | None) -> str:
    """Return the name part of `infrastructure_pid` (`namespace:job-name`), "" without one."""
    return ((run.infrastructure_pid if run else None) or "").rpartition(":")[2]


def find_claim(run: Run, history: Sequence[State], mine: Set[UUID]) -> Claim | None:
    """The claim of ours that the run waits, runs or ran under: one of the history's last unbroken
    stretch of PENDING states (oldest first). `mine` are the transition ids of our claims.

    Where the run was rescheduled since, its recorded Job must be that claim's: a flow that retries
    in its own process goes on without a claim, and a cancelled run may have been rescheduled
    (docs/races.md, 26, 27).
    """
    stretch, rescheduled = _last_pending_stretch(in_order(history))
    claims = claims_in(stretch, mine)
    if not rescheduled:
        return claims[-1] if claims else None
    recorded = recorded_job(run)
    return next((claim for claim in claims if claim.made(recorded, run_id=run.id)), None)


def in_order(history: Sequence[State]) -> list[State]:
    """The history in the order in which it happened. A claim may have an earlier time than the
    SCHEDULED state that it was made on, if another replica of the server made that one: the claim
    tells it by its scheduled time."""
    states = list(history)
    for index in range(1, len(states)):
        before, state = states[index - 1], states[index]
        if _is_claim_on(before, state) and not _follows_scheduled(states, index - 1):
            states[index - 1], states[index] = state, before
    return states


def is_stray_claim(state: State, claim: Claim) -> bool:
    """The claim, or the sub-state that stands for it, wrote over something else than what was
    scheduled: the server copies the scheduled time from a SCHEDULED predecessor (docs/races.md,
    1)."""
    time = claim.scheduled_time
    return time is None or state.state_details.scheduled_time != time


def is_stray_substate(state: State, history: Sequence[State], mine: Set[UUID]) -> bool:
    """The state is a sub-state of a claim of ours that is over: it came too late and was accepted
    all the same."""
    claims = claims_in(history, mine)
    return state.state_details.transition_id in {c.substate_id(state.name) for c in claims}


def overwritten_state(state: State, history: Sequence[State], mine: Set[UUID]) -> State | None:
    """What our states up to `state` wrote over, with its data; None if that is somebody else's
    claim, which must stand."""
    ids = [entry.id for entry in history]
    before = history[: ids.index(state.id)] if state.id in ids else history
    for entry in reversed(before):
        if entry.type != "PENDING":
            return entry
        is_ours = entry.state_details.transition_id in mine
        if not is_ours and not is_stray_substate(entry, history, mine):
            return None
    return None


def count_retries(history: Sequence[State], mine: Set[UUID]) -> int:
    """Return how often the run was put back for its infrastructure since it was last final,
    as its states (oldest first) say; `mine` are the transition ids of our claims."""
    claims = claims_in(history, mine)
    ids = {claim.substate_id(INFRASTRUCTURE_RETRY) for claim in claims}
    made = 0
    for state in history:
        if state.final:
            made = 0
        elif state.type == "SCHEDULED" and state.state_details.transition_id in ids:
            made += 1
    return made


def claims_in(states: Sequence[State], mine: Set[UUID]) -> list[Claim]:
    """Return the claims that were made under one of the transition ids `mine`, in order."""
    found = (Claim.of(state) for state in states if state.state_details.transition_id in mine)
    return [claim for claim in found if claim]


def _last_pending_stretch(history: Sequence[State]) -> tuple[list[State], bool]:
    """And whether the run was SCHEDULED after it."""
    stretch: list[State] = []
    rescheduled = False
    for state in reversed(history):
        if state.type == "PENDING":
            stretch.append(state)
        elif stretch:
            break
        elif state.type == "SCHEDULED":
            rescheduled = True
    return stretch[::-1], rescheduled


def _is_claim_on(pending: State, scheduled: State) -> bool:
    """The states could be those of a claim, and of what it was made on, in the wrong order."""
    if (pending.type, scheduled.type) != ("PENDING", "SCHEDULED"):
        return False
    if pending.timestamp is None or scheduled.timestamp is None:
        return False
    due = pending.state_details.scheduled_time
    is_same = due is not None and due == scheduled.state_details.scheduled_time
    return is_same and scheduled.timestamp - pending.timestamp <= CLOCK_SKEW


def _follows_scheduled(states: Sequence[State], index: int) -> bool:
    """What the claim was made on is before it already."""
    due = states[index].state_details.scheduled_time
    earlier = (s for s in reversed(states[:index]) if s.type != "PENDING")
    before = next(earlier, None)
    return before is not None and before.state_details.scheduled_time == due
