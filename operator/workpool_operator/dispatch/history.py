"""What a run's history of states proves about its claims. Pure.

Only the history tells whose claim stands behind a named sub-state or a running flow: the current
state's own ids belong to whoever wrote it last (races.md 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from workpool_operator.dispatch.ledger import Claim
from workpool_operator.jobs.names import substate_transition_id
from workpool_operator.prefect_api.views import State


def find_claim(history: Sequence[State], transition_id: UUID) -> Claim | None:
    """Our claim, if the run's last unbroken stretch of PENDING states (oldest first) has one."""
    stretch = _last_pending_stretch(history)
    mine = [s for s in stretch if s.state_details.transition_id == transition_id and s.id]
    return Claim.of(mine[-1]) if mine else None


def is_stray_substate(state: State, history: Sequence[State], transition_id: UUID) -> bool:
    """The state is a sub-state of a claim of ours that is over: it came too late and was accepted
    all the same."""
    claims = [s.id for s in history if s.state_details.transition_id == transition_id and s.id]
    ids = {substate_transition_id(claim_id=claim, name=state.name) for claim in claims}
    return state.state_details.transition_id in ids


def predecessor_of(state: State, history: Sequence[State]) -> State | None:
    """The state before `state`, with its data: what a phantom claim is to be undone to."""
    before: State | None = None
    for entry in history:
        if entry.id == state.id:
            break
        before = entry
    return before if before and before.type != "PENDING" else None


def _last_pending_stretch(history: Sequence[State]) -> list[State]:
    stretch: list[State] = []
    for state in reversed(history):
        if state.type == "PENDING":
            stretch.append(state)
        elif stretch or state.type == "SCHEDULED":
            break
    return stretch[::-1]
