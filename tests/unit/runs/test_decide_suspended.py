"""The rows of the decision table for suspended Jobs and their time-outs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.support.decisions import (
    CLAIMED,
    NAME,
    POLICY,
    RECORDED,
    RETRY,
    RUNNING,
    Case,
    check,
    sentence,
)
from tests.support.snapshots import (
    NOW,
    RUN_ID,
    WALL,
    answered,
    claim,
    id_of,
    job,
    job_name,
    pending,
    pod,
    read_at,
    record,
    run,
    since,
    snapshot_of,
    state,
)
from workpool_operator.jobs import diagnosis
from workpool_operator.jobs.diagnosis import OUTAGE, WaitReason
from workpool_operator.runs.actions import (
    Action,
    AdoptJob,
    ClaimRun,
    ConfirmJobDeleted,
    CreateJob,
    DeleteJob,
    DropOffer,
    LogToRun,
    NoAction,
    Postpone,
    ReadQueueEvents,
    RecordInfrastructurePid,
    RefreshRun,
    ReportCrashed,
    ReportWaiting,
    RequeueAfter,
)
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.decide import decide
from workpool_operator.runs.settings import Timeouts
from workpool_operator.runs.store import RunRecord

LONG_AGO = WALL - timedelta(hours=2)
JUST_NOW = WALL - timedelta(seconds=5)
OLD_CLAIM = claim(timestamp=LONG_AGO)
HELD = run(pending(name="JobSuspended"), pid=NAME)
RESUMED = run(pending(name="JobResumed"), pid=NAME)
PREEMPTED = run(RETRY, pid=job_name("old"))
OUR_RETRY = run(RETRY, pid=job_name("old"), empirical_policy={"retry_type": "in_process"})
SUSPENDED = job("old", suspended=True, noted="True")
RUNS_AGAIN = job("old", noted="False", started_at=WALL + timedelta(seconds=20))
KEPT = record(PREEMPTED, suspended_job=job_name("old"))
LOGGED = record(PREEMPTED, noted=job_name("old"))
QUOTA = WaitReason("QuotaExceeded", "exceeded quota")
QUOTA_RUN = run(pending(name="QuotaExceeded", at=WALL - timedelta(seconds=601)))


def waiting(known_run: object, **fields: object) -> RunRecord:
    return record(known_run, claim=OLD_CLAIM, **fields)  # type: ignore[arg-type]


CASES = [
    # What a suspended Job waits for
    Case(
        "a run whose Job is suspended is reported as such",
        waiting(RECORDED),
        ReportWaiting(diagnosis.suspended(job(suspended=True)), OLD_CLAIM),
        {"jobs": (job(suspended=True),)},
    ),
    Case(
        "its queue is first read for what it lacks",
        waiting(RECORDED),
        ReadQueueEvents(NAME),
        {"jobs": (job(suspended=True, queue="user-queue"),)},
    ),
    Case(
        "and its answer is reported",
        waiting(RECORDED, workload="2 more cpu needed"),
        ReportWaiting(
            diagnosis.suspended(job(suspended=True, queue="user-queue"), "2 more cpu needed"),
            OLD_CLAIM,
        ),
        {"jobs": (job(suspended=True, queue="user-queue"),)},
    ),
    Case(
        "a queue with room resumes a Job before a wait is reported",
        waiting(RECORDED),
        RequeueAfter,
        {"jobs": (job(suspended=True),)},
        ago=1,
    ),
    Case(
        "while other runs are claimed its report comes later",
        waiting(RECORDED),
        RequeueAfter(POLICY.claims_recheck),
        {"jobs": (job(suspended=True),), "claiming": True},
        ago=POLICY.claims_first - 1,
    ),
    Case(
        "but not much later",
        waiting(RECORDED),
        ReportWaiting(diagnosis.suspended(job(suspended=True)), OLD_CLAIM),
        {"jobs": (job(suspended=True),), "claiming": True},
        ago=POLICY.claims_first + 1,
    ),
    Case(
        "it is reported once",
        waiting(HELD),
        NoAction(),
        {"jobs": (job(suspended=True),)},
    ),
    Case(
        "the end of that wait is reported too",
        waiting(HELD),
        ReportWaiting(diagnosis.resumed(job()), OLD_CLAIM),
        {"jobs": (job(noted="True"),)},
    ),
    Case(
        "but not once the flow container runs",
        waiting(HELD),
        NoAction(),
        {"jobs": (job(noted="False"),), "pods": (pod(phase="Running"),)},
    ),
    # Time-outs
    Case(
        "a Job that was just resumed is not timed out before its start is recorded",
        waiting(RESUMED),
        RequeueAfter,
        {"jobs": (job(created=LONG_AGO),)},
        ago=1,
    ),
    Case(
        "nor by its start before the suspension",
        waiting(RESUMED),
        RequeueAfter,
        {"jobs": (job(created=LONG_AGO, started_at=LONG_AGO, noted="True"),)},
        ago=1,
    ),
    Case(
        "nor by a claim that is much older than its Job",
        waiting(RECORDED),
        RequeueAfter,
        {"jobs": (job(created=JUST_NOW),)},
        ago=1,
    ),
    Case(
        "a Job that has waited too long since its resume is timed out",
        waiting(RESUMED),
        ReportCrashed,
        {"jobs": (job(created=LONG_AGO, started_at=WALL - timedelta(seconds=601)),)},
    ),
    Case(
        "a Job without a recorded start is timed out by what this process saw",
        waiting(RESUMED),
        ReportCrashed,
        {"jobs": (job(created=LONG_AGO),)},
    ),
    Case(
        "a refused Job is not timed out by a claim that is much older than the refusal",
        waiting(CLAIMED, refusal=QUOTA),
        ReportWaiting(QUOTA, OLD_CLAIM),
        ago=1,
    ),
    Case(
        "nor by an outage before the refusal",
        waiting(run(pending(name=OUTAGE, at=LONG_AGO)), refusal=QUOTA),
        ReportWaiting(QUOTA, OLD_CLAIM),
        ago=1,
    ),
    Case(
        "a refused Job is timed out by the sub-state of an earlier process",
        waiting(QUOTA_RUN, refusal=QUOTA),
        ReportCrashed,
        ago=1,
    ),
    # A Job that is preempted
    Case(
        "a run whose Job was suspended is rescheduled",
        record(RUNNING),
        Postpone(diagnosis.suspended_while_running(job(suspended=True))),
        {"jobs": (job(suspended=True),)},
    ),
    Case(
        "the run's own process has time to reschedule it",
        record(RUNNING),
        RequeueAfter(7.0),
        {"jobs": (job(suspended=True),)},
        ago=3,
    ),
    Case(
        "a run whose pod is still terminating is not rescheduled",
        record(RUNNING),
        NoAction(),
        {"jobs": (job(suspended=True),), "pods": (pod(phase="Running"),)},
    ),
    Case(
        "a suspended Job is kept, and the run's log says so",
        record(PREEMPTED),
        LogToRun(diagnosis.keeps_place_in_queue(SUSPENDED), about=job_name("old")),
        {"jobs": (SUSPENDED,)},
    ),
    Case("it is reported once", LOGGED, NoAction(), {"jobs": (SUSPENDED,)}),
    Case(
        "it is kept while its pod is ending, too",
        LOGGED,
        NoAction(),
        {"jobs": (SUSPENDED,), "pods": (pod("old", phase="Running"),)},
    ),
    Case(
        "the run is not claimed while its Job is suspended",
        record(PREEMPTED, offered_at=NOW),
        DropOffer(),
        {"jobs": (SUSPENDED,)},
    ),
    Case(
        "the run is claimed when its Job is resumed",
        KEPT,
        ClaimRun(),
        {"jobs": (job("old", noted="True"),)},
    ),
    Case(
        "the run is read first",
        KEPT,
        RefreshRun(),
        {"jobs": (job("old"),)},
        answered_ago=5,
    ),
    Case(
        "also by a process that never saw the Job suspended",
        record(PREEMPTED),
        ClaimRun(),
        {"jobs": (RUNS_AGAIN,)},
    ),
    Case(
        "a run that retries in its own process is claimed, too",
        record(OUR_RETRY),
        ClaimRun(),
        {"jobs": (RUNS_AGAIN,)},
    ),
    Case(
        "a run is not claimed if the end of its resumed Job is decided",
        KEPT,
        DeleteJob,
        {"jobs": (job("old", ended="FailureTarget"),)},
    ),
    Case(
        "a Job that ran before the run was rescheduled does not count as resumed",
        record(PREEMPTED),
        DeleteJob,
        {"jobs": (job("old", noted="False", started_at=LONG_AGO),)},
    ),
    # Adoption
    Case(
        "a claim adopts the Job that was resumed",
        record(run(pending(), pid=job_name("old")), mine="claim"),
        AdoptJob(RUNS_AGAIN, claim()),
        {"jobs": (RUNS_AGAIN,)},
    ),
    Case(
        "also one that was suspended again meanwhile",
        record(run(pending(), pid=job_name("old")), mine="claim"),
        AdoptJob(SUSPENDED, claim()),
        {"jobs": (SUSPENDED,)},
    ),
    Case(
        "no Job is created while the pods of an earlier one exist",
        record(run(pending(), pid=job_name("old")), mine="claim"),
        RequeueAfter(5.0),
        {"jobs": (job("old", deleting=True),), "pods": (pod("old", phase="Running"),)},
    ),
    Case(
        "an adopted Job is the run's current Job",
        record(run(pending(name="JobResumed"), pid=job_name("old")), mine="claim"),
        NoAction(),
        {
            "jobs": (job("old", adopted_by="claim", started_at=JUST_NOW),),
            "pods": (pod("old", phase="Running", created=JUST_NOW),),
        },
    ),
    Case(
        "an adopted Job is recorded in Prefect",
        record(CLAIMED, mine="claim"),
        RecordInfrastructurePid(job_name("old")),
        {"jobs": (job("old", adopted_by="claim"),)},
    ),
    Case(
        "the pod of the previous attempt does not hide what the next pod waits for",
        record(run(pending(), pid=job_name("old")), mine="claim"),
        ReportWaiting,
        {
            "jobs": (job("old", adopted_by="claim", started_at=JUST_NOW),),
            "deleted_pods": (pod("old", phase="Failed", exit_code=143, created=LONG_AGO),),
            "pods": (pod("old", waiting="ErrImagePull", created=JUST_NOW),),
        },
    ),
    Case(
        "an adopted Job that was deleted is reported under its own name",
        record(run(pending(), pid=job_name("old")), mine="claim"),
        ConfirmJobDeleted(job_name("old")),
        {"deleted_jobs": (job("old", adopted_by="claim"),)},
    ),
    Case(
        "a preempted run whose Job was deleted gets a new one",
        record(run(pending(), pid=job_name("old")), mine="claim"),
        CreateJob(ClaimedRun(run(pending(), pid=job_name("old")), claim())),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=sentence)
def test_the_table_decides(case: Case) -> None:
    check(case)


def test_a_job_that_was_suspended_for_an_hour_is_not_timed_out_by_its_resume() -> None:
    """Event by event: the Job controller records the start in a separate sync."""
    known = waiting(HELD)
    events: list[tuple[float, object]] = [
        (0, job(suspended=True, created=LONG_AGO)),
        (3600, job(suspended=True, created=LONG_AGO)),
        (3601, job(created=LONG_AGO)),
        (3602, job(created=LONG_AGO, started_at=at(3601))),
        (3612, job(created=LONG_AGO, started_at=at(3601))),
    ]
    for seconds, now_job in events:
        known, action = action_at(known, seconds, now_job)
        assert not isinstance(action, ReportCrashed | RefreshRun), action
    _, action = action_at(replace(known, run=RESUMED), 4202, events[-1][1])
    assert isinstance(action, ReportCrashed)


def at(seconds: float) -> datetime:
    return WALL + timedelta(seconds=seconds)


def action_at(known: RunRecord, seconds: float, now_job: object) -> tuple[RunRecord, Action]:
    seen = snapshot_of(read_at(known, NOW + seconds), now=NOW + seconds, jobs=(now_job,))
    return seen.record, decide(seen, Timeouts(), wall=at(seconds))


def test_a_claim_that_is_refused_until_a_time_is_repeated_at_that_time() -> None:
    """The deployment's concurrency limit is reached, so that the resumed Job's pod waits, too."""
    slot = state("SCHEDULED", "AwaitingConcurrencySlot", scheduled_time=at(30))
    known = record(run(slot), suspended_job=job_name("old"), not_before=at(30))
    seen = snapshot_of(known, jobs=(job("old"),))
    assert decide(seen, Timeouts(), wall=WALL) == RequeueAfter(30.0)
    assert decide(seen, Timeouts(), wall=at(31)) == ClaimRun()


def test_the_name_of_a_suspended_job_is_kept_until_the_run_leaves_scheduled() -> None:
    known = record(PREEMPTED)
    known = since(known, NOW, jobs=(SUSPENDED,))
    known = since(known, NOW, jobs=(job("old"),))
    assert known.suspended_job == job_name("old")
    assert answered(known, RUNNING, at=NOW + 1).suspended_job == ""


def test_an_adopted_job_belongs_to_the_claim_that_adopted_it() -> None:
    assert job("old", adopted_by="claim").claim_id == str(id_of("claim"))
    assert job("old", adopted_by="claim").run_id == str(RUN_ID)


def test_a_suspended_job_is_reported_with_its_queue_or_how_to_resume_it() -> None:
    queued = job(suspended=True, queue="user-queue")
    assert "queue 'user-queue': `kubectl" in diagnosis.suspended(queued).message
    lacks = diagnosis.suspended(queued, "2 more cpu needed").message
    assert "queue 'user-queue': 2 more cpu needed." in lacks
    by_hand = diagnosis.suspended(job(suspended=True)).message
    assert f"patch job {NAME}" in by_hand
    assert '{"spec":{"suspend":false}}' in by_hand
