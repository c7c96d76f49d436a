"""The rows of the decision table for runs with an ended Job, and for paused and cancelled runs."""

from __future__ import annotations

import pytest

from tests.support.decisions import (
    CANCELLING,
    FAILED,
    NAME,
    OOM,
    RECORDED,
    RUNNING,
    STOPPING,
    Case,
    check,
    sentence,
)
from tests.support.snapshots import (
    id_of,
    job,
    pod,
    record,
    run,
    state,
)
from workpool_operator.jobs import diagnosis
from workpool_operator.runs.actions import (
    ConfirmJobDeleted,
    DeleteJob,
    NoAction,
    RecordInfrastructurePid,
    RefreshRun,
    RefreshStateHistory,
    ReportCancelled,
    ReportCrashed,
    RequeueAfter,
    SetJobTTL,
)

CASES = [
    # PENDING or RUNNING, and the Job over
    *[
        case
        for where, known in (
            ("pending", record(RECORDED, mine="claim")),
            ("running", record(RUNNING)),
        )
        for case in (
            Case(
                f"a {where} run whose Job failed crashes", known, ReportCrashed, {"jobs": (FAILED,)}
            ),
            Case(
                f"a {where} run is read before its failed Job crashes it",
                known,
                RefreshRun(),
                {"jobs": (FAILED,)},
                answered_ago=10,
            ),
            Case(
                f"a {where} run whose Job completed has time to report",
                known,
                RequeueAfter(7.0),
                {"jobs": (job(ended="Complete"),)},
                ago=3,
            ),
            Case(
                f"a {where} run that exited 0 without a report crashes",
                known,
                ReportCrashed,
                {"jobs": (job(ended="Complete"),)},
            ),
            Case(
                f"the failed Job of an earlier claim does not apply to a {where} run",
                known,
                RequeueAfter if where == "pending" else NoAction(),
                {
                    "jobs": (job("old", ended="Failed"), job()),
                    "pods": (
                        pod(
                            waiting="ContainerCreating" if where == "pending" else "",
                            phase="Pending" if where == "pending" else "Running",
                        ),
                    ),
                },
                ago=1,
            ),
        )
    ],
    # RUNNING
    Case("a running run is left to its pod", record(RUNNING), NoAction(), {"jobs": (job(),)}),
    Case(
        "a running run without a visible Job is looked up",
        record(RUNNING),
        RefreshStateHistory(),
    ),
    Case(
        "a running run of another worker is not changed",
        record(RUNNING, foreign_state_id=id_of("RUNNING")),
        NoAction(),
    ),
    Case(
        "the history of a running run without a pid is read",
        record(run("RUNNING")),
        RefreshStateHistory(),
        {"jobs": (job(),)},
    ),
    Case(
        "a Job that was created before a crash of the operator is recorded late",
        record(run("RUNNING"), mine="claim"),
        RecordInfrastructurePid(NAME),
        {"jobs": (job(),)},
    ),
    Case(
        "a GET confirms that a Job vanished", record(RUNNING, mine="claim"), ConfirmJobDeleted(NAME)
    ),
    Case(
        "a cache that lags is given time", record(RUNNING, mine="claim"), RequeueAfter(4.0), ago=1
    ),
    Case(
        "a Job whose pod still runs has not vanished",
        record(RUNNING, mine="claim"),
        RequeueAfter(5.0),
        {"pods": (pod(phase="Running"),)},
    ),
    Case(
        "a vanished Job crashes its run",
        record(RUNNING, mine="claim", job_confirmed_deleted=NAME),
        ReportCrashed,
    ),
    Case(
        "a run is read before its vanished Job crashes it",
        record(RUNNING, mine="claim", job_confirmed_deleted=NAME),
        RefreshRun(),
        answered_ago=10,
    ),
    Case(
        "a failed Job is reported once the status of its pod is known",
        record(RUNNING),
        RequeueAfter(9.0),
        {"jobs": (FAILED,), "pods": (pod(phase="Running"),)},
        ago=1,
    ),
    # PAUSED
    Case(
        "a blocking pause needs its pod",
        record(run("PAUSED", pid=NAME)),
        ReportCrashed,
        {"jobs": (FAILED,)},
    ),
    Case(
        "a suspended run needs no pod",
        record(run(state("PAUSED", "Suspended", pause_reschedule=True), pid=NAME)),
        SetJobTTL(FAILED),
        {"jobs": (FAILED,)},
    ),
    Case(
        "what the report of the run's own process could not know is written to its log",
        record(run(state("CRASHED", "Crashed", message="SIGKILL"), pid=NAME)),
        SetJobTTL(FAILED, note=diagnosis.out_of_memory([OOM])),
        {"jobs": (FAILED,), "pods": (OOM,)},
    ),
    Case(
        "what the run's state says is not logged again",
        record(run(state("CRASHED", "Crashed", message=diagnosis.out_of_memory([OOM])), pid=NAME)),
        SetJobTTL(FAILED),
        {"jobs": (FAILED,), "pods": (OOM,)},
    ),
    Case(
        "a suspended run without Jobs needs no action",
        record(run(state("PAUSED", "Suspended", pause_reschedule=True), pid=NAME)),
        NoAction(),
    ),
    Case(
        "a paused run is left alone",
        record(run("PAUSED", pid=NAME)),
        NoAction(),
        {"jobs": (job(),)},
    ),
    # CANCELLING
    Case(
        "the Job of a cancelled run that never started is deleted",
        record(CANCELLING, mine="claim"),
        DeleteJob(job()),
        {"jobs": (job(),)},
    ),
    Case(
        "and the run is cancelled meanwhile",
        record(CANCELLING, mine="claim"),
        ReportCancelled,
        {"jobs": (job(deleting=True),)},
    ),
    Case(
        "a cancelled run without a Job is cancelled",
        record(CANCELLING, mine="claim"),
        ReportCancelled,
    ),
    Case(
        "a cancelled flow has time to end by itself",
        record(STOPPING),
        RequeueAfter(50.0),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
        ago=10,
    ),
    Case(
        "the Job of one that does not is deleted",
        record(STOPPING),
        DeleteJob(job()),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
    ),
    Case(
        "a second attempt that never started does not get that time",
        record(STOPPING),
        DeleteJob(job()),
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull"),)},
        ago=1,
    ),
    Case(
        "the claim of a cancelled run is looked up",
        record(run("CANCELLING")),
        RefreshStateHistory(),
    ),
    Case(
        "a previous Job of ours does not make a cancelled run ours",
        record(run("CANCELLING", pid="elsewhere"), foreign_state_id=id_of("CANCELLING")),
        NoAction(),
        {"jobs": (job("old", ended="Failed"),)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=sentence)
def test_the_table_decides(case: Case) -> None:
    check(case)
