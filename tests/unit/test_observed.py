"""Which Job is a run's current one, which are leftovers, and since when a fact holds."""

from __future__ import annotations

import pytest

from tests.support.snapshots import NOW, RETRY_RUN, job, job_name, look, pending, pod, record, run
from workpool_operator.kube.views import FINAL_STATE_ANNOTATION

CLAIMED = run(pending(), pid=job_name("old"))
RUNNING = run("RUNNING", pid=job_name())


def test_the_current_job_of_a_pending_run_is_its_claims_not_the_recorded_one() -> None:
    seen = look(record(CLAIMED, mine="claim"), jobs=(job("old", ended="Failed"), job()))
    assert seen.current == job()
    assert seen.leftovers == (job("old", ended="Failed"),)
    assert seen.current_name == job_name()


def test_the_current_job_of_a_running_run_is_the_recorded_one() -> None:
    seen = look(record(RUNNING), jobs=(job("old", ended="Failed"), job()))
    assert seen.current == job()


def test_a_running_run_without_a_pid_has_the_job_of_its_claim() -> None:
    assert look(record(run("RUNNING"), mine="claim"), jobs=(job(),)).current == job()
    assert look(record(run("RUNNING")), jobs=(job(),)).current is None


def test_the_job_of_a_run_that_was_renamed_keeps_its_name() -> None:
    renamed = run("RUNNING", pid=job_name(), name="renamed")
    assert look(record(renamed, mine="claim")).current_name == job_name()


def test_every_job_of_a_scheduled_run_is_a_leftover() -> None:
    seen = look(record(RETRY_RUN), jobs=(job("old"), job("older", ended="Complete")))
    assert seen.current is None
    assert seen.live_leftovers == (job("old"),)
    assert seen.overlapping


def test_a_pod_that_outlives_its_job_overlaps() -> None:
    seen = look(record(RETRY_RUN), pods=(pod("old", phase="Running"),))
    assert seen.overlapping
    assert seen.live_leftovers == ()
    assert not look(record(RETRY_RUN), pods=(pod("old", phase="Failed"),)).overlapping


def test_a_job_that_ended_while_its_pod_runs_overlaps() -> None:
    ended = job("old", ended="Complete")
    seen = look(record(RETRY_RUN), jobs=(ended,), pods=(pod("old", phase="Running"),))
    assert seen.live_leftovers == (ended,)


def test_the_last_status_of_a_deleted_pod_is_the_current_jobs() -> None:
    gone = pod(phase="Failed", exit_code=7)
    seen = look(record(RUNNING), jobs=(job(),), gone_pods=(gone, pod("old", phase="Failed")))
    assert seen.pods == (gone,)
    assert seen.started


def test_a_fact_is_counted_from_when_it_was_first_seen() -> None:
    known = record(RUNNING, mine="claim")
    assert look(known, now=NOW).held("gone") == 0
    assert look(known, now=NOW + 3).held("gone") == 3
    assert look(known, now=NOW + 4, jobs=(job(),)).held("gone") == 0
    assert look(known, now=NOW + 6).held("gone") == 0


def test_facts_of_one_job_are_not_those_of_the_next() -> None:
    known = record(RUNNING, mine="claim")
    look(known, now=NOW)
    known.heard(run("RUNNING", pid="another-1"), asked_at=NOW + 1, now=NOW + 1)
    assert look(known, now=NOW + 9).held("gone") == 0


def test_a_state_is_fresh_that_was_asked_for_after_the_fact() -> None:
    known = record(RUNNING)
    failed = (job(ended="Failed"),)
    assert not look(known, now=NOW + 1, jobs=failed).fresh("ended")
    known.heard(RUNNING, asked_at=NOW + 2, now=NOW + 5)
    seen = look(known, now=NOW + 6, jobs=failed)
    assert seen.fresh("ended")
    assert seen.age == 1


@pytest.mark.parametrize("place", ["jobs", "gone_jobs"])
def test_a_job_that_was_ended_for_its_run_is_found(place: str) -> None:
    marked = job("old", annotations={FINAL_STATE_ANNOTATION: "CRASHED/Crashed/x"})
    assert look(record(RETRY_RUN), **{place: (marked,)}).ended_by_us == marked
    assert look(record(RETRY_RUN), **{place: (job("old"),)}).ended_by_us is None
