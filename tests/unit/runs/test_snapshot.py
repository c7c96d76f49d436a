"""Which Job is a run's current one, which are previous ones, and since when a fact holds."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tests.support.snapshots import (
    NOW,
    RETRY_RUN,
    answered,
    job,
    job_name,
    pending,
    pod,
    record,
    run,
    since,
    snapshot_of,
)
from workpool_operator.kube.models import FINAL_STATE_ANNOTATION
from workpool_operator.runs.snapshot import facts
from workpool_operator.runs.store import Fact

CLAIMED = run(pending(), pid=job_name("old"))
RUNNING = run("RUNNING", pid=job_name())


def test_the_current_job_of_a_pending_run_is_its_claims_and_not_the_recorded_one() -> None:
    seen = snapshot_of(record(CLAIMED, mine="claim"), jobs=(job("old", ended="Failed"), job()))
    assert seen.current == job()
    assert seen.previous_jobs == (job("old", ended="Failed"),)
    assert seen.current_name == job_name()


def test_the_current_job_of_a_running_run_is_the_recorded_one() -> None:
    seen = snapshot_of(record(RUNNING), jobs=(job("old", ended="Failed"), job()))
    assert seen.current == job()


def test_a_running_run_without_a_pid_has_the_job_of_its_claim() -> None:
    assert snapshot_of(record(run("RUNNING"), mine="claim"), jobs=(job(),)).current == job()
    assert snapshot_of(record(run("RUNNING")), jobs=(job(),)).current is None


def test_the_job_of_a_run_that_was_renamed_keeps_its_name() -> None:
    renamed = run("RUNNING", pid=job_name(), name="renamed")
    assert snapshot_of(record(renamed, mine="claim")).current_name == job_name()


def test_every_job_of_a_scheduled_run_is_a_previous_job() -> None:
    seen = snapshot_of(record(RETRY_RUN), jobs=(job("old"), job("older", ended="Complete")))
    assert seen.current is None
    assert seen.live_previous_jobs == (job("old"),)
    assert seen.overlapping


def test_a_pod_that_outlives_its_job_overlaps() -> None:
    seen = snapshot_of(record(RETRY_RUN), pods=(pod("old", phase="Running"),))
    assert seen.overlapping
    assert seen.live_previous_jobs == ()
    assert not snapshot_of(record(RETRY_RUN), pods=(pod("old", phase="Failed"),)).overlapping


def test_a_job_that_ended_while_its_pod_runs_overlaps() -> None:
    ended = job("old", ended="Complete")
    seen = snapshot_of(record(RETRY_RUN), jobs=(ended,), pods=(pod("old", phase="Running"),))
    assert seen.live_previous_jobs == (ended,)


def test_the_last_status_of_a_deleted_pod_belongs_to_the_current_job() -> None:
    gone = pod(phase="Failed", exit_code=7)
    seen = snapshot_of(
        record(RUNNING), jobs=(job(),), deleted_pods=(gone, pod("old", phase="Failed"))
    )
    assert seen.pods == (gone,)
    assert seen.started


def test_the_age_of_a_fact_starts_when_it_is_first_seen() -> None:
    first = snapshot_of(record(RUNNING, mine="claim"), now=NOW)
    assert first.seconds_since("vanished") == 0
    assert snapshot_of(first.record, now=NOW + 3).seconds_since("vanished") == 3
    found = snapshot_of(first.record, now=NOW + 4, jobs=(job(),))
    assert found.seconds_since("vanished") == 0
    assert snapshot_of(found.record, now=NOW + 6).seconds_since("vanished") == 0


def test_taking_a_snapshot_changes_nothing() -> None:
    known = record(RUNNING, mine="claim")
    snapshot_of(known, now=NOW)
    assert known == record(RUNNING, mine="claim")
    assert snapshot_of(known, now=NOW + 3).seconds_since("vanished") == 0


def test_facts_start_again_with_the_next_job() -> None:
    known = since(record(RUNNING, mine="claim"), NOW)
    known = answered(known, run("RUNNING", pid="another-1"), at=NOW + 1)
    assert snapshot_of(known, now=NOW + 9).seconds_since("vanished") == 0


def test_a_state_that_was_requested_after_the_fact_is_current() -> None:
    failed = (job(ended="Failed"),)
    first = snapshot_of(record(RUNNING), now=NOW + 1, jobs=failed)
    assert not first.read_since("ended")
    known = answered(first.record, RUNNING, asked_at=NOW + 2, at=NOW + 5)
    seen = snapshot_of(known, now=NOW + 6, jobs=failed)
    assert seen.read_since("ended")
    assert seen.age == 1


@pytest.mark.parametrize("place", ["jobs", "deleted_jobs"])
def test_a_job_that_the_operator_deleted_for_its_run_is_found(place: str) -> None:
    marked = job("old", annotations={FINAL_STATE_ANNOTATION: "CRASHED/Crashed/x"})
    ended: dict[str, Any] = {place: (marked,)}
    other: dict[str, Any] = {place: (job("old"),)}
    assert snapshot_of(record(RETRY_RUN), **ended).ended_by_us == marked
    assert snapshot_of(record(RETRY_RUN), **other).ended_by_us is None


def test_a_snapshot_defines_every_fact() -> None:
    assert set(facts(snapshot_of(record(RUNNING), now=NOW))) == set(get_args(Fact))
