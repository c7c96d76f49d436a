"""Only the history shows to which claim a state belongs (docs/races.md, 1, 3, 27)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.support.snapshots import (
    DUE,
    MINE,
    WALL,
    claim,
    id_of,
    job_name,
    pending,
    run,
    state,
)
from workpool_operator.prefect_api.models import SetStateResult, State
from workpool_operator.runs.claims import (
    Owner,
    find_claim,
    in_order,
    is_stray_claim,
    is_stray_substate,
    overwritten_state,
)

SCHEDULED = state("SCHEDULED", scheduled_time=DUE)
RETRY = state("SCHEDULED", "AwaitingRetry", scheduled_time=WALL)
COMPLETED = state("COMPLETED", data={"type": "reference"})
FOREIGN = state("PENDING", "Pending", id_="foreign", transition_id=id_of("other"))
SUBMITTING = state("PENDING", "InfrastructurePending", id_="by the observer", scheduled_time=DUE)
BINDING = Owner("c", "data/etl", "b", "w", "data", "http://server/api", UUID(int=1), ())
WORKER = replace(BINDING, binding="worker:etl", shares_transition_ids=True)


def substate(of: str = "claim", name: str = "Unschedulable", **details: Any) -> State:
    mine = claim(of).substate_id(name)
    return pending(f"{of}-{name}", name=name, **{"transition_id": mine, **details})


def found(*history: State, pid: str | None = None) -> str:
    """Return the id of the claim that was found; "" if there is none."""
    here = find_claim(run(history[-1], pid=pid), history, {MINE})
    known = {id_of(name): name for name in ("claim", "second")}
    return known[here.id] if here else ""


def test_a_claim_is_found_behind_sub_states_of_any_client() -> None:
    assert found(SCHEDULED, pending()) == "claim"
    assert found(SCHEDULED, pending(), substate(), SUBMITTING) == "claim"
    assert found(SCHEDULED, pending(), state("RUNNING")) == "claim"


def test_the_last_claim_counts() -> None:
    again = (SCHEDULED, pending(), state("RUNNING"), RETRY, pending("second"))
    assert found(*again) == "second"
    assert found(*again, substate("second"), state("RUNNING")) == "second"


def test_a_claim_ends_when_its_run_is_rescheduled() -> None:
    assert found(SCHEDULED, pending(), RETRY) == ""
    assert found(SCHEDULED, pending(), RETRY, FOREIGN) == ""
    assert found(SCHEDULED, pending(), RETRY, FOREIGN, state("RUNNING")) == ""


def test_the_claim_of_another_client_is_not_ours() -> None:
    assert found(SCHEDULED, FOREIGN) == ""
    assert found(SCHEDULED, FOREIGN, state("RUNNING")) == ""
    assert found(state("RUNNING")) == ""


def test_a_cancelled_retry_belongs_to_the_owner_of_the_recorded_job() -> None:
    cancelled = (SCHEDULED, pending(), state("RUNNING"), RETRY, state("CANCELLING"))
    assert found(*cancelled, pid=job_name()) == "claim"
    assert found(*cancelled, pid="stranger-1") == ""
    assert found(*cancelled) == ""


def test_a_flow_that_retries_in_its_own_process_keeps_its_claim() -> None:
    """Its recorded Job proves it: there is no new claim."""
    waits = (SCHEDULED, pending(), state("RUNNING"), RETRY)
    runs_again = (*waits, state("RUNNING", id_="again"))
    twice = (*runs_again, RETRY, state("RUNNING", id_="third"))
    paused = (*runs_again, state("PAUSED"))
    for history in (waits, runs_again, twice, paused):
        assert found(*history, pid=job_name()) == "claim"
        assert found(*history, pid=job_name("second")) == ""
        assert found(*history) == ""


def test_a_run_that_another_client_claimed_after_a_retry_is_not_ours_whatever_job_is_recorded() -> (
    None
):
    theirs = (SCHEDULED, pending(), state("RUNNING"), RETRY, FOREIGN)
    for history in (theirs, (*theirs, state("RUNNING", id_="theirs"))):
        assert found(*history, pid=job_name()) == ""


LATE_CLOCK = state("SCHEDULED", at=WALL + timedelta(seconds=0.2), scheduled_time=DUE)


def test_a_claim_by_a_replica_whose_clock_is_behind_is_found() -> None:
    """The SCHEDULED state that it followed has a later timestamp than the claim."""
    assert found(pending(), LATE_CLOCK, substate()) == "claim"
    assert found(pending(), LATE_CLOCK, state("RUNNING")) == "claim"
    assert in_order([pending(), LATE_CLOCK, substate()]) == [LATE_CLOCK, pending(), substate()]


@pytest.mark.parametrize(
    "history",
    [
        [SCHEDULED, pending(), RETRY],
        [SCHEDULED, pending(), LATE_CLOCK],
        [pending(), replace(LATE_CLOCK, timestamp=WALL + timedelta(minutes=1))],
        [pending(scheduled_time=None), state("SCHEDULED")],
        [replace(pending(), timestamp=None), LATE_CLOCK],
    ],
    ids=["for later", "rescheduled", "minutes later", "no time", "no clock"],
)
def test_a_run_that_was_scheduled_again_has_no_claim(history: list[State]) -> None:
    assert in_order(history) == history


def test_a_claim_without_a_scheduled_time_is_stray() -> None:
    assert not is_stray_claim(pending(), claim())
    late = pending(scheduled_time=None)
    assert is_stray_claim(late, claim(scheduled_time=None))


def test_a_sub_state_with_another_scheduled_time_is_stray() -> None:
    assert not is_stray_claim(substate(), claim())
    assert is_stray_claim(substate(scheduled_time=WALL), claim())
    assert is_stray_claim(substate(scheduled_time=None), claim())


def test_a_sub_state_of_a_claim_that_ended_is_stray() -> None:
    late = substate()
    assert is_stray_substate(late, [SCHEDULED, pending(), state("RUNNING"), RETRY, late], {MINE})
    assert not is_stray_substate(FOREIGN, [SCHEDULED, pending(), RETRY, FOREIGN], {MINE})


def test_the_state_that_a_late_claim_overwrote_is_found_with_its_data() -> None:
    late = pending("second", scheduled_time=None)
    history = [SCHEDULED, pending(), state("RUNNING"), COMPLETED, late]
    before = overwritten_state(late, history, {MINE})
    assert before is not None
    assert before.data == COMPLETED.data


def test_the_state_that_a_stray_claim_and_its_sub_state_overwrote_is_found() -> None:
    late = pending("second", scheduled_time=None)
    after = substate("second", scheduled_time=None)
    history = [SCHEDULED, pending(), state("RUNNING"), COMPLETED, late, after]
    assert overwritten_state(after, history, {MINE}) == COMPLETED


def test_the_state_that_a_stray_sub_state_overwrote_is_found() -> None:
    late = substate()
    history = [SCHEDULED, pending(), state("RUNNING"), RETRY, late]
    assert overwritten_state(late, history, {MINE}) == RETRY


def test_a_stray_sub_state_on_the_claim_of_another_client_is_not_reverted() -> None:
    """To revert it would schedule a run that another worker has claimed."""
    late = substate()
    assert overwritten_state(late, [SCHEDULED, pending(), RETRY, FOREIGN, late], {MINE}) is None


@pytest.mark.parametrize("status", ["REJECT", "ABORT", "WAIT"])
def test_an_existing_claim_counts_for_a_binding_but_not_for_a_worker(status: str) -> None:
    answer = SetStateResult(status, pending())
    assert BINDING.is_granted(answer)
    assert not WORKER.is_granted(answer)


def test_an_accepted_claim_counts_for_both() -> None:
    answer = SetStateResult("ACCEPT", pending())
    assert BINDING.is_granted(answer)
    assert WORKER.is_granted(answer)
