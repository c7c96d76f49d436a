"""What is kept of the server's answers, and which of them are out of date."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.snapshots import (
    NOW,
    RUN_ID,
    WALL,
    claim,
    id_of,
    job_name,
    pending,
    record,
    run,
    state,
)
from workpool_operator.dispatch.claims import recorded_job
from workpool_operator.dispatch.ledger import NEVER, Ledger, Record
from workpool_operator.jobs.verdict import OUTAGE, Wait

SCHEDULED = run(state("SCHEDULED", scheduled_time=WALL))
CLAIMED = run(pending())
RUNNING = run("RUNNING", pid=job_name())


def test_an_answer_to_an_older_question_is_out_of_date() -> None:
    known = record(RUNNING)
    assert not known.heard(SCHEDULED, asked_at=NOW - 1, now=NOW + 1)
    assert known.run == RUNNING
    assert known.heard(SCHEDULED, asked_at=NOW + 1, now=NOW + 2)
    assert known.run == SCHEDULED


def test_a_read_that_was_on_its_way_during_a_write_is_out_of_date() -> None:
    known = record(SCHEDULED)
    known.heard(CLAIMED, asked_at=NOW + 1, now=NOW + 3, wrote=True)
    assert not known.heard(SCHEDULED, asked_at=NOW + 2, now=NOW + 4)
    assert known.run == CLAIMED


def test_a_write_that_a_read_overtook_is_out_of_date() -> None:
    known = record(SCHEDULED)
    known.heard(run("CANCELLING"), asked_at=NOW + 2, now=NOW + 3)
    assert not known.heard(CLAIMED, asked_at=NOW + 1, now=NOW + 4, wrote=True)
    assert known.state_type == "CANCELLING"


def test_what_happens_between_question_and_answer_makes_the_answer_stale() -> None:
    known = record(SCHEDULED)
    known.doubt(NOW + 2)
    known.heard(RUNNING, asked_at=NOW + 1, now=NOW + 3)
    assert known.stale
    known.heard(RUNNING, asked_at=NOW + 4, now=NOW + 5)
    assert not known.stale


def test_a_new_state_starts_all_counts_afresh() -> None:
    known = record(RUNNING, since={"ended": NOW})
    known.heard(run("RUNNING", pid=job_name()), asked_at=NOW + 1, now=NOW + 1)
    assert known.since == {"ended": NOW}
    known.heard(run("COMPLETED"), asked_at=NOW + 2, now=NOW + 2)
    assert known.since == {}


def test_a_second_404_does_not_start_the_count_afresh() -> None:
    known = Record()
    known.heard(None, asked_at=NOW, now=NOW)
    known.since = {"known": NOW}
    known.heard(None, asked_at=NOW + 1, now=NOW + 1)
    assert known.missing
    assert known.since == {"known": NOW}


def test_a_scheduled_run_has_no_claim_any_more() -> None:
    known = record(CLAIMED, mine="claim", refusal=Wait("Q", "q"), job_confirmed_gone="x")
    known.heard(SCHEDULED, asked_at=NOW + 1, now=NOW + 1)
    assert known.claim is None
    assert known.refusal is None
    assert known.job_confirmed_gone == ""


def test_an_offer_ends_with_the_state_that_it_was_made_for() -> None:
    known = record(SCHEDULED, offered_at=NOW, not_before=WALL)
    known.heard(SCHEDULED, asked_at=NOW + 1, now=NOW + 1)
    assert known.offered_at == NOW
    known.heard(CLAIMED, asked_at=NOW + 2, now=NOW + 2)
    assert known.offered_at is None
    assert known.not_before is None


def test_a_parked_run_follows_a_new_scheduled_time() -> None:
    known = record(SCHEDULED, not_before=WALL + timedelta(hours=1))
    assert known.parked(WALL)
    known.heard(SCHEDULED, asked_at=NOW + 1, now=NOW + 1)
    assert known.not_before == WALL
    assert not known.parked(WALL)


def refused(known: Record, times: int) -> list[float]:
    """The seconds for which each refusal puts the run off."""
    seconds = []
    for _ in range(times):
        known.offered_at = NOW
        known.claim_refused(SCHEDULED.state, wall=WALL)
        assert known.offered_at is None
        assert known.not_before is not None
        seconds.append((known.not_before - WALL).total_seconds())
    return seconds


def test_a_refusal_that_names_no_later_time_puts_the_run_off_ever_longer() -> None:
    known = record(SCHEDULED)
    assert refused(known, 5) == [30, 60, 120, 240, 240]
    known.heard(SCHEDULED, asked_at=NOW + 1, now=NOW + 1)  # the state that was refused
    assert known.parked(WALL)
    known.heard(CLAIMED, asked_at=NOW + 2, now=NOW + 2)
    known.heard(SCHEDULED, asked_at=NOW + 3, now=NOW + 3)
    assert not known.parked(WALL)
    assert refused(known, 1) == [30]


def test_a_run_that_is_scheduled_anew_is_not_put_off_any_more() -> None:
    known = record(SCHEDULED)
    refused(known, 1)
    again = run(state("SCHEDULED", id_="again", scheduled_time=WALL))
    known.heard(again, asked_at=NOW + 1, now=NOW + 1)
    assert not known.parked(WALL)


def test_a_refusal_that_names_a_later_time_is_taken_at_its_word() -> None:
    known, later = record(SCHEDULED), WALL + timedelta(seconds=7)
    known.claim_refused(state("SCHEDULED", scheduled_time=later), wall=WALL)
    assert known.not_before == later


def test_a_refusal_without_a_state_puts_the_run_off_too() -> None:
    known = record(SCHEDULED)
    known.claim_refused(None, wall=WALL)
    assert known.not_before == WALL + timedelta(seconds=30)


def test_a_lease_that_was_lost_is_none_however_often_the_claim_is_heard_of() -> None:
    held = claim(lease_id=id_of("lease"))
    known = record(CLAIMED)
    known.claimed(held)
    assert known.claim == held
    known.lost_lease = held.lease_id
    known.claimed(held)
    assert known.claim == claim()


@pytest.mark.parametrize(
    ("pid", "kept"),
    [(job_name(), True), (job_name(run_name="renamed"), True), ("stranger-1", False), (None, True)],
)
def test_a_running_run_keeps_the_claim_that_its_recorded_job_was_made_for(
    pid: str | None, kept: bool
) -> None:
    known = record(CLAIMED, mine="claim")
    known.heard(run("RUNNING", pid=pid), asked_at=NOW + 1, now=NOW + 1)
    assert (known.claim is not None) == kept


def test_a_disowned_state_is_known_by_its_id() -> None:
    known = record(run("PENDING"), claim=claim(), phantom=True)
    known.disown()
    assert known.claim is None
    assert not known.phantom
    assert known.disowned == id_of("PENDING")


@pytest.mark.parametrize(("pid", "name"), [("brave-lynx-1", "brave-lynx-1"), (None, ""), ("", "")])
def test_a_pid_names_a_job(pid: str | None, name: str) -> None:
    assert recorded_job(run("RUNNING", pid=pid)) == name
    assert recorded_job(None) == ""


def test_the_end_of_an_outage_ends_only_the_waits_for_it() -> None:
    ledger = Ledger()
    refusals = {id_of("PENDING"): Wait(OUTAGE, "no answer"), RUN_ID: Wait("QuotaExceeded", "full")}
    for run_id, refusal in refusals.items():
        known = ledger.of(run_id)
        known.refusal, known.refused_until = refusal, NOW + 60
    ledger.outage_over()
    assert ledger.of(id_of("PENDING")).refused_until == NEVER
    assert ledger.of(RUN_ID).refused_until == NOW + 60


def test_a_ledger_makes_and_drops_records() -> None:
    ledger = Ledger()
    assert ledger.get(RUN_ID) is None
    made = ledger.of(RUN_ID)
    assert ledger.get(RUN_ID) is ledger.of(RUN_ID) is made
    assert list(ledger) == [(RUN_ID, made)]
    ledger.drop(RUN_ID)
    ledger.drop(RUN_ID)
    assert len(ledger) == 0
