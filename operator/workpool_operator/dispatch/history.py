"""What a run's history of states proves about its claims. Pure.

Only the history tells whose claim stands behind a named sub-state or a running flow: the current
state's own ids belong to whoever wrote it last (races.md 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from workpool_operator.dispatch.ledger import Claim, recorded_job
from workpool_operator.prefect_api.views import Run, State


def find_claim(run: Run, history: Sequence[State], transition_id: UUID) -> Claim | None:
    """Our claim, if the run's last unbroken stretch of PENDING states (oldest first) has one. A
    cancelled run may have been rescheduled since: there its recorded Job tells (races.md 27)."""
    stretch = _claims(_last_pending_stretch(history), transition_id)
    if stretch:
        return stretch[-1]
    if run.state_type != "CANCELLING":
        return None
    recorded = recorded_job(run)
    claims = _claims(history, transition_id)
    return next((claim for claim in claims if claim.made(recorded, run_id=run.id)), None)


def is_phantom(state: State, claim: Claim) -> bool:
    """The claim, or the sub-state that stands for it, wrote over something else than what was
    scheduled: the server copies the scheduled time from a SCHEDULED predecessor (races.md 1)."""
    time = claim.scheduled_time
    return time is None or state.state_details.scheduled_time != time


def is_stray_substate(state: State, history: Sequence[State], transition_id: UUID) -> bool:
    """The state is a sub-state of a claim of ours that is over: it came too late and was accepted
    all the same."""
    claims = _claims(history, transition_id)
    return state.state_details.transition_id in {c.substate_id(state.name) for c in claims}


def predecessor_of(state: State, history: Sequence[State], transition_id: UUID) -> State | None:
    """What our states up to `state` wrote over, with its data; None if that is somebody else's
    claim, which must stand."""
    ids = [entry.id for entry in history]
    before = history[: ids.index(state.id)] if state.id in ids else history
    for entry in reversed(before):
        if entry.type != "PENDING":
            return entry
        mine = entry.state_details.transition_id == transition_id
        if not mine and not is_stray_substate(entry, history, transition_id):
            return None
    return None


def _claims(states: Sequence[State], transition_id: UUID) -> list[Claim]:
    return [Claim.of(s) for s in states if s.state_details.transition_id == transition_id and s.id]


def _last_pending_stretch(history: Sequence[State]) -> list[State]:
    stretch: list[State] = []
    for state in reversed(history):
        if state.type == "PENDING":
            stretch.append(state)
        elif stretch or state.type == "SCHEDULED":
            break
    return stretch[::-1]
