"""Which answers of the server change a record, and which are out of date."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.snapshots import (
    MINE,
    NOW,
    RUN_ID,
    WALL,
    answered,
    claim,
    id_of,
    job_name,
    pending,
    record,
    run,
    state,
)
from workpool_operator.jobs.diagnosis import OUTAGE, WaitReason
from workpool_operator.runs.claims import recorded_job
from workpool_operator.runs.store import (
    NEVER,
    JobFault,
    JobFaultReason,
    RunFacts,
    RunRecord,
    RunStore,
)

SCHEDULED = run(state("SCHEDULED", scheduled_time=WALL))
CLAIMED = run(pending())
RUNNING = run("RUNNING", pid=job_name())


def test_an_answer_to_an_older_request_is_out_of_date() -> None:
    known = record(RUNNING)
    assert answered(known, SCHEDULED, asked_at=NOW - 1, at=NOW + 1) is known
    assert answered(known, SCHEDULED, asked_at=NOW + 1, at=NOW + 2).run == SCHEDULED


def test_a_read_that_was_in_flight_during_a_write_is_out_of_date() -> None:
    known = answered(record(SCHEDULED), CLAIMED, asked_at=NOW + 1, at=NOW + 3, wrote=True)
    assert known.run == CLAIMED
    assert answered(known, SCHEDULED, asked_at=NOW + 2, at=NOW + 4) is known


def test_a_write_that_a_read_overtook_makes_the_record_stale() -> None:
    known = answered(record(SCHEDULED), run("CANCELLING"), asked_at=NOW + 2, at=NOW + 3)
    known = answered(known, CLAIMED, asked_at=NOW + 1, at=NOW + 4, wrote=True)
    assert known.state_type == "CANCELLING"
    assert known.is_stale


def test_an_event_between_request_and_answer_makes_the_answer_stale() -> None:
    known = record(SCHEDULED).mark_stale(NOW + 2)
    known = answered(known, RUNNING, asked_at=NOW + 1, at=NOW + 3)
    assert known.is_stale
    assert not answered(known, RUNNING, asked_at=NOW + 4, at=NOW + 5).is_stale


def test_a_new_state_resets_all_counts() -> None:
    known = record(RUNNING, since={"ended": NOW})
    known = answered(known, run("RUNNING", pid=job_name()), at=NOW + 1)
    assert known.since == {"ended": NOW}
    known = answered(known, run("COMPLETED"), at=NOW + 2)
    assert known.since == {}


def test_a_second_404_does_not_reset_the_count() -> None:
    known = replace(answered(RunRecord(), None, at=NOW), since={"known": NOW})
    known = answered(known, None, at=NOW + 1)
    assert known.missing
    assert known.since == {"known": NOW}


def test_a_scheduled_run_no_longer_has_a_claim() -> None:
    known = record(CLAIMED, mine="claim", refusal=WaitReason("Q", "q"), job_confirmed_deleted="x")
    known = answered(known, SCHEDULED, at=NOW + 1)
    assert known.claim is None
    assert known.refusal is None
    assert known.job_confirmed_deleted == ""


def test_the_next_claim_starts_without_the_refusals_of_the_last_one() -> None:
    refusals = {"refusals": 9, "refused_until": NOW + 60, "refused_at": NOW - 1}
    known = record(CLAIMED, mine="claim", refusal=WaitReason("Q", "q"), **refusals)
    assert answered(known, CLAIMED, at=NOW + 1).refusals == 9
    known = answered(known, SCHEDULED, at=NOW + 1)
    assert (known.refusals, known.refused_until, known.refused_at) == (0, NEVER, NEVER)


def test_only_facts_that_outlast_a_claim_are_left_of_it_once_the_run_is_scheduled() -> None:
    """A new field of the record belongs either to one claim, and ends with it, or in this list."""
    outlast = {
        *("run", "missing", "read_at", "answered_at", "valid_from", "stale_since", "since"),
        *("foreign_state_id", "lease_renewed_at", "lost_lease"),  # compared with ids, or set again
        *("offered_at", "deployment", "not_before", "refused_claims", "refused_under"),
        *("observed_name", "suspended_job", "workload", "reported", "noted"),  # of one Job
        *("events_read_at", "pods_retried_at"),
    }
    left: Any = object()
    of_claim = {field.name: left for field in fields(RunRecord) if field.name not in outlast}
    known = replace(record(CLAIMED), **of_claim)
    scheduled = answered(known, SCHEDULED, at=NOW + 1)
    ended = {name: getattr(scheduled, name) for name in of_claim}
    assert ended == {name: getattr(RunRecord(), name) for name in of_claim}


def test_an_offer_ends_with_the_state_for_which_it_was_made() -> None:
    known = record(SCHEDULED, offered_at=NOW, not_before=WALL)
    known = answered(known, SCHEDULED, at=NOW + 1)
    assert known.offered_at == NOW
    known = answered(known, CLAIMED, at=NOW + 2)
    assert known.offered_at is None
    assert known.not_before is None


def test_a_deferred_run_follows_a_new_scheduled_time() -> None:
    known = record(SCHEDULED, not_before=WALL + timedelta(hours=1))
    assert known.is_deferred(WALL)
    known = answered(known, SCHEDULED, at=NOW + 1)
    assert known.not_before == WALL
    assert not known.is_deferred(WALL)


def refused(known: RunRecord, times: int) -> tuple[RunRecord, list[float]]:
    """Return the record after the refusals, and the seconds for which each defers the run."""
    seconds = []
    for _ in range(times):
        known = replace(known, offered_at=NOW).defer(SCHEDULED.state, wall=WALL)
        assert known.offered_at is None
        assert known.not_before is not None
        seconds.append((known.not_before - WALL).total_seconds())
    return known, seconds


def test_repeated_refusals_without_a_later_time_defer_the_run_longer_each_time() -> None:
    known, seconds = refused(record(SCHEDULED), 5)
    assert seconds == [30, 60, 120, 240, 240]
    known = answered(known, SCHEDULED, at=NOW + 1)  # the state that was refused
    assert known.is_deferred(WALL)
    known = answered(known, CLAIMED, at=NOW + 2)
    known = answered(known, SCHEDULED, at=NOW + 3)
    assert not known.is_deferred(WALL)
    assert refused(known, 1)[1] == [30]


def test_a_run_that_is_scheduled_again_is_no_longer_deferred() -> None:
    known, _ = refused(record(SCHEDULED), 1)
    again = run(state("SCHEDULED", id_="again", scheduled_time=WALL))
    known = answered(known, again, at=NOW + 1)
    assert not known.is_deferred(WALL)


def test_a_refusal_with_a_later_time_defers_the_run_until_then() -> None:
    known, later = record(SCHEDULED), WALL + timedelta(seconds=7)
    known = known.defer(state("SCHEDULED", scheduled_time=later), wall=WALL)
    assert known.not_before == later


def test_a_refusal_without_a_state_defers_the_run_too() -> None:
    known = record(SCHEDULED).defer(None, wall=WALL)
    assert known.not_before == WALL + timedelta(seconds=30)


def test_a_lost_lease_stays_lost_however_often_its_claim_is_read() -> None:
    held = claim(lease_id=id_of("lease"))
    known = record(CLAIMED).with_claim(held)
    assert known.claim == held
    known = replace(known, lost_lease=held.lease_id)
    assert known.with_claim(held).claim == claim()


@pytest.mark.parametrize(
    ("pid", "kept"),
    [(job_name(), True), (job_name(run_name="renamed"), True), ("stranger-1", False), (None, True)],
)
def test_a_running_run_keeps_the_claim_of_its_recorded_job(pid: str | None, kept: bool) -> None:
    known = record(CLAIMED, mine="claim")
    known = answered(known, run("RUNNING", pid=pid), at=NOW + 1)
    assert (known.claim is not None) == kept


def test_a_foreign_state_is_recognised_by_its_id() -> None:
    known = record(run("PENDING"), claim=claim(), stray_claim=True).mark_foreign()
    assert known.claim is None
    assert not known.stray_claim
    assert known.foreign_state_id == id_of("PENDING")


@pytest.mark.parametrize(("pid", "name"), [("brave-lynx-1", "brave-lynx-1"), (None, ""), ("", "")])
def test_a_job_name_is_read_from_the_infrastructure_pid(pid: str | None, name: str) -> None:
    assert recorded_job(run("RUNNING", pid=pid)) == name
    assert recorded_job(None) == ""


@pytest.mark.parametrize(
    ("state_type", "record_of"),
    [("SCHEDULED", "a poll"), ("PENDING", "a poll"), ("PENDING", "an answer to a write")],
)
def test_a_claim_is_recognised_however_its_state_arrives(state_type: str, record_of: str) -> None:
    """Every state enters the store through one method."""
    store = RunStore(lambda _: {MINE}, clock=FakeClock())
    current = CLAIMED if state_type == "PENDING" else SCHEDULED
    wrote = record_of == "an answer to a write"
    assert store.apply(RUN_ID, current, asked_at=NOW, wrote=wrote)
    assert store.of(RUN_ID).claim == (claim() if state_type == "PENDING" else None)
    assert (store.of(RUN_ID).claimed_run is not None) == (state_type == "PENDING")


def test_a_pending_state_under_another_id_is_not_our_claim() -> None:
    store = RunStore(lambda _: {id_of("another")}, clock=FakeClock())
    store.apply(RUN_ID, CLAIMED, asked_at=NOW)
    assert store.of(RUN_ID).claim is None


def test_a_job_fault_ends_once_its_run_is_scheduled_again() -> None:
    fault = JobFault(claim().id, JobFaultReason.REFUSED, "no")
    known = record(CLAIMED, mine="claim", job_fault=fault)
    assert answered(known, CLAIMED, at=NOW + 1).job_fault == fault
    assert answered(known, SCHEDULED, at=NOW + 1).job_fault is None


def test_the_end_of_an_outage_ends_only_waits_for_the_api_server() -> None:
    store = RunStore(lambda _: set())
    refusals = {
        id_of("PENDING"): WaitReason(OUTAGE, "no answer"),
        RUN_ID: WaitReason("QuotaExceeded", "full"),
    }
    for run_id, refusal in refusals.items():
        store.put(run_id, RunRecord(refusal=refusal, refused_until=NOW + 60))
    store.end_outage()
    assert store.of(id_of("PENDING")).refused_until == NEVER
    assert store.of(RUN_ID).refused_until == NOW + 60


def test_a_store_keeps_and_drops_records() -> None:
    store = RunStore(lambda _: set())
    assert store.get(RUN_ID) is None
    assert store.of(RUN_ID) == RunRecord()
    made = record(RUNNING)
    store.put(RUN_ID, made)
    assert store.get(RUN_ID) is store.of(RUN_ID) is made
    assert list(store) == [(RUN_ID, made)]
    store.drop(RUN_ID)
    store.drop(RUN_ID)
    assert len(store) == 0


def test_an_update_changes_the_given_facts_and_keeps_the_others() -> None:
    store = RunStore(lambda _: set())
    store.put(RUN_ID, record(RUNNING, noted="job a"))
    store.update(RUN_ID, workload="cpu")
    assert store.of(RUN_ID) == replace(record(RUNNING, noted="job a"), workload="cpu")


def test_an_update_does_not_remember_a_forgotten_run() -> None:
    store = RunStore(lambda _: set())
    store.update(RUN_ID, workload="cpu")
    assert store.get(RUN_ID) is None


def test_the_facts_of_an_update_have_the_types_of_the_records_fields() -> None:
    fields = RunRecord.__annotations__
    assert {name: fields[name] for name in RunFacts.__annotations__} == {
        name: hint.__forward_arg__ for name, hint in RunFacts.__annotations__.items()
    }


def test_the_store_knows_which_runs_have_an_open_offer() -> None:
    store = RunStore(lambda _: set())
    store.apply(RUN_ID, SCHEDULED, asked_at=NOW)
    store.update(RUN_ID, offered_at=NOW)
    assert store.offered == {RUN_ID}
    store.apply(RUN_ID, CLAIMED, asked_at=NOW + 1)
    assert store.offered == set()
    store.put(RUN_ID, record(SCHEDULED, offered_at=NOW))
    assert store.is_claiming
    store.drop(RUN_ID)
    assert store.offered == set()
    assert not store.is_claiming


@pytest.mark.parametrize(
    ("known", "has_document"),
    [
        (record(SCHEDULED), True),
        (record(CLAIMED, mine="claim"), True),
        (record(run(pending(), pid=job_name("earlier")), mine="claim"), True),
        (record(run(pending(), pid=job_name()), mine="claim"), False),
        (record(run("PENDING")), True),
        (record(RUNNING, mine="claim"), False),
        (record(run("COMPLETED")), False),
    ],
)
def test_a_run_has_its_document_until_its_job_is_recorded(
    known: RunRecord, has_document: bool
) -> None:
    store = RunStore(lambda _: {MINE}, keeps_documents=False)
    store.put(RUN_ID, known)
    kept = store.of(RUN_ID).run
    assert kept == known.run
    assert kept is not None
    assert bool(kept.document) is has_document


def test_a_worker_keeps_every_document() -> None:
    store = RunStore(lambda _: {MINE})
    store.put(RUN_ID, record(RUNNING, mine="claim"))
    kept = store.of(RUN_ID).run
    assert kept is not None
    assert kept.document
