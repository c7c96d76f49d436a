"""The rows of the decision table for runs that are claimed and have not started."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.decisions import (
    CLAIMED,
    NAME,
    POLICY,
    QUOTA,
    RECORDED,
    Case,
    check,
    decide_at,
    sentence,
    waiting_for,
)
from tests.support.snapshots import (
    NOW,
    WALL,
    claim,
    id_of,
    job,
    job_name,
    pending,
    pod,
    record,
    run,
    snapshot_of,
)
from workpool_operator.jobs.diagnosis import Termination, WaitReason
from workpool_operator.kube import models
from workpool_operator.runs.actions import (
    AdoptJob,
    ConfirmJobDeleted,
    CreateJob,
    NoAction,
    Postpone,
    ReadEvents,
    RecordInfrastructurePid,
    RefreshRun,
    RefreshStateHistory,
    RenewLease,
    ReportCancelled,
    ReportCrashed,
    ReportWaiting,
    RequeueAfter,
    RetryPods,
    RevertClaim,
)
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.decide import decide
from workpool_operator.runs.store import JobFault, JobFaultReason, RunRecord

HELD = run(pending(name="JobSuspended"), pid=NAME)

MINE = ClaimedRun(CLAIMED, claim())


def impossible(reason: JobFaultReason, message: str, **fields: Any) -> RunRecord:
    fault = JobFault(claim().id, reason, message)
    return record(CLAIMED, **{"claim": claim(), "job_fault": fault, **fields})


CASES = [
    # PENDING
    Case("a claimed run without a Job gets one", record(CLAIMED, mine="claim"), CreateJob(MINE)),
    Case(
        "a rescheduled run's earlier Job is not its new claim's",
        record(run(pending(), pid=job_name("old")), mine="claim"),
        CreateJob(ClaimedRun(run(pending(), pid=job_name("old")), claim())),
        {"jobs": (job("old", ended="Failed", ttl=60),)},
    ),
    Case(
        "the history of a Pending run without a known claim is read",
        record(run("PENDING")),
        RefreshStateHistory(),
    ),
    Case(
        "a Pending run of another worker is not changed",
        record(run("PENDING"), foreign_state_id=id_of("PENDING")),
        NoAction(),
    ),
    Case(
        "a Job that exists is recorded",
        record(CLAIMED, mine="claim"),
        RecordInfrastructurePid(NAME),
        {"jobs": (job(),)},
    ),
    Case(
        "a renamed run keeps its Job",
        record(run(pending(), pid=NAME, name="renamed"), mine="claim"),
        ConfirmJobDeleted(NAME),
    ),
    Case(
        "a Job that was recorded and deleted is not created again",
        record(RECORDED, mine="claim"),
        ConfirmJobDeleted(NAME),
    ),
    Case(
        "a missing Job under a sub-state of an existing Job was deleted",
        record(run(pending(name="Unschedulable")), mine="claim"),
        ConfirmJobDeleted(NAME),
    ),
    Case(
        "a run that waits for its pod is reported as such",
        record(RECORDED, mine="claim"),
        ReportWaiting,
        {"jobs": (job(),), "pods": (pod(unschedulable="no nodes"),)},
        ago=10,
    ),
    Case(
        "while other runs are claimed its report comes later",
        record(RECORDED, mine="claim"),
        RequeueAfter(POLICY.claims_recheck),
        {"jobs": (job(),), "pods": (pod(unschedulable="no nodes"),), "claiming": True},
        ago=10,
    ),
    Case(
        "a lease is renewed while the run waits for its Job's pod",
        record(RECORDED, claim=claim(lease_id=id_of("lease"))),
        RenewLease(id_of("lease")),
        {"jobs": (job(),)},
    ),
    Case(
        "a lease is renewed while a suspended Job waits",
        record(HELD, claim=claim(lease_id=id_of("lease")), lease_renewed_at=NOW - 40),
        RequeueAfter(POLICY.lease_renewal - 40),
        {"jobs": (job(suspended=True),)},
    ),
    Case(
        "a lease is renewed while the flow container starts",
        record(RECORDED, claim=claim(lease_id=id_of("lease")), lease_renewed_at=NOW - 40),
        RequeueAfter(POLICY.lease_renewal - 40),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
    ),
    Case(
        "a lease is renewed while the quota is full",
        waiting_for(QUOTA, claim=claim(lease_id=id_of("lease"))),
        RenewLease(id_of("lease")),
    ),
    Case(
        "a run is read before its lease is renewed if its state is old",
        record(RECORDED, claim=claim(lease_id=id_of("lease"))),
        RefreshRun(),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
        answered_ago=40,
    ),
    Case(
        "a pod's wait is reported",
        record(RECORDED, mine="claim"),
        ReportWaiting,
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull", message="no such image"),)},
    ),
    Case(
        "a wait is reported once",
        record(run(pending(name="ImagePullBackOff"), pid=NAME), mine="claim"),
        RequeueAfter,
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull"),)},
        ago=1,
    ),
    Case(
        "a permanent wait ends the run",
        record(RECORDED, mine="claim"),
        ReportCrashed,
        {"jobs": (job(),), "pods": (pod(waiting="InvalidImageName"),)},
    ),
    Case(
        "a wait beyond the pending time-out ends the run",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(seconds=601))),
        ReportCrashed,
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull"),)},
    ),
    Case(
        "the time-out that the Job records is the run's, not the binding's",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(seconds=91))),
        ReportCrashed,
        {
            "jobs": (job(annotations={models.PENDING_TIMEOUT_ANNOTATION: "90"}),),
            "pods": (pod(waiting="ErrImagePull"),),
        },
    ),
    Case(
        "the run's own time-out can be longer than the binding's",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(seconds=3000))),
        ReportWaiting,
        {
            "jobs": (job(annotations={models.PENDING_TIMEOUT_ANNOTATION: "3600"}),),
            "pods": (pod(waiting="ErrImagePull"),),
        },
    ),
    Case(
        "the run's own time-out counts while its Job is refused, too",
        record(
            CLAIMED,
            claim=claim(timestamp=WALL - timedelta(seconds=91)),
            refusal=QUOTA,
            pending_timeout=90,
        ),
        ReportCrashed,
    ),
    Case(
        "an annotation that is not a number is ignored",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(seconds=91))),
        ReportWaiting,
        {
            "jobs": (job(annotations={models.PENDING_TIMEOUT_ANNOTATION: "soon"}),),
            "pods": (pod(waiting="ErrImagePull"),),
        },
    ),
    Case(
        "the time-out of a suspended Job starts when it is resumed",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(hours=2))),
        ReportWaiting,
        {
            "jobs": (job(started_at=WALL - timedelta(seconds=5)),),
            "pods": (pod(waiting="ErrImagePull"),),
        },
    ),
    Case(
        "a suspended Job is not timed out",
        record(HELD, claim=claim(timestamp=WALL - timedelta(hours=2))),
        NoAction(),
        {"jobs": (job(suspended=True),)},
    ),
    Case(
        "a started container is not timed out",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(hours=2))),
        NoAction(),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
    ),
    Case(
        "the Events of a Job without pods are read",
        record(RECORDED, mine="claim"),
        ReadEvents("Job", NAME),
        {"jobs": (job(),)},
    ),
    Case(
        "the Events of a pod without containers are read",
        record(RECORDED, mine="claim"),
        ReadEvents("Pod", "pod-claim"),
        {"jobs": (job(),), "pods": (pod(),)},
    ),
    Case("a temporary refusal is reported", waiting_for(QUOTA), ReportWaiting(QUOTA, claim())),
    Case(
        "a refused Job is tried again later",
        record(
            run(pending(name="QuotaExceeded")),
            mine="claim",
            refusal=QUOTA,
            refused_until=NOW + 7,
        ),
        RequeueAfter(7.0),
    ),
    Case(
        "and is created once the delay has passed",
        record(run(pending(name="QuotaExceeded")), mine="claim", refusal=QUOTA),
        CreateJob(ClaimedRun(run(pending(name="QuotaExceeded")), claim())),
    ),
    Case(
        "a run whose deployment was deleted is cancelled",
        impossible(JobFaultReason.DEPLOYMENT_NOT_FOUND, "Deployment d no longer exists"),
        ReportCancelled("Deployment d no longer exists: the run was cancelled."),
    ),
    Case(
        "a run whose Job cannot be rendered crashes with the path",
        impossible(JobFaultReason.RENDERING_FAILED, "job_manifest.spec: no object"),
        ReportCrashed(
            Termination(
                "The run's Job cannot be created. job_manifest.spec: no object", "RenderingFailed"
            )
        ),
    ),
    Case(
        "a run whose Job is refused for good crashes with the fix",
        impossible(JobFaultReason.REFUSED, "The API server refused the run's Job: no. Do so."),
        ReportCrashed(
            Termination("The API server refused the run's Job: no. Do so.", "JobRefused")
        ),
    ),
    Case(
        "also if an earlier refusal was temporary",
        impossible(JobFaultReason.REFUSED, "no", refusal=QUOTA),
        ReportCrashed(Termination("no", "JobRefused")),
    ),
    Case(
        "that is not decided on a state that was read long ago",
        impossible(JobFaultReason.REFUSED, "no"),
        RefreshRun(),
        answered_ago=5,
    ),
    Case(
        "a job fault of an earlier claim does not apply to this one",
        impossible(JobFaultReason.REFUSED, "no", claim=claim("second")),
        CreateJob(ClaimedRun(CLAIMED, claim("second"))),
    ),
    Case(
        "a run whose earlier Job continues adopts it instead of ending",
        impossible(JobFaultReason.REFUSED, "no"),
        AdoptJob(job("old"), claim()),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a stray claim is reverted", record(CLAIMED, mine="claim", stray_claim=True), RevertClaim()
    ),
]


@pytest.mark.parametrize("case", CASES, ids=sentence)
def test_the_table_decides(case: Case) -> None:
    check(case)


def test_no_job_is_created_before_the_time_that_the_api_server_named_for_any_run() -> None:
    seen = replace(snapshot_of(record(CLAIMED, mine="claim")), creation_paused=3.0)
    assert decide(seen, POLICY, wall=WALL) == RequeueAfter(3.0)


def test_of_the_runs_that_a_quota_refuses_all_but_one_are_scheduled_again() -> None:
    full = replace(QUOTA, quota="few, requested: pods=1, used: pods=3, limited: pods=3")
    known = waiting_for(full, refused_until=NOW + 60)
    read = replace(known, read_at=NOW, answered_at=NOW)
    first = snapshot_of(read)
    assert isinstance(decide(first, POLICY, wall=WALL), ReportWaiting)
    assert decide(replace(first, quota_probed=True), POLICY, wall=WALL) == Postpone(full, 0.0)
    old = replace(first, quota_probed=True, record=replace(read, answered_at=NOW - 3))
    assert decide(old, POLICY, wall=WALL) == RefreshRun()


def test_the_run_that_probes_a_quota_has_its_refused_pod_created_again_every_second() -> None:
    wait = WaitReason("FailedCreate", "no", quota="few, requested: pods=1")
    claimed = run(pending(name="FailedCreate"), pid=NAME)
    known = record(
        claimed,
        mine="claim",
        event_reason=wait,
        events_read_at=NOW,
        since={"podless": NOW - 5, "known": NOW - 5},
        observed_name=NAME,
    )
    seen = snapshot_of(known, jobs=(job(started_at=WALL),))
    assert decide(seen, POLICY, wall=WALL) == RetryPods(job(started_at=WALL))
    tried = replace(seen, record=replace(seen.record, pods_retried_at=NOW - 0.5))
    assert decide(tried, POLICY, wall=WALL) == RequeueAfter(1.0)
    assert decide(replace(seen, quota_probed=True), POLICY, wall=WALL) == RequeueAfter(2.0)


def test_a_pending_timeout_of_0_lets_a_run_wait_without_limit() -> None:
    case = Case(
        "a wait of 30 days",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(days=30))),
        ReportCrashed,
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull"),)},
    )
    check(case)
    assert isinstance(decide_at(case, timeouts=replace(POLICY, pending_timeout=0)), ReportWaiting)
