"""The rows of the decision table for a binding that is being deleted and cancels its runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.decisions import (
    CANCELLING,
    CLAIMED,
    NAME,
    RECORDED,
    RETRY,
    RUNNING,
    SCHEDULED,
    Case,
    check,
    sentence,
)
from tests.support.snapshots import job, pod, record, run, state
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.actions import (
    CancelRun,
    DeleteJob,
    ForgetRun,
    NoAction,
    RefreshRun,
    RefreshStateHistory,
    ReportCrashed,
    RequeueAfter,
)


def objects(*found: Job | Pod) -> dict[str, Any]:
    """Return what the cluster has of a run whose binding cancels it."""
    return {
        "cancels": True,
        "jobs": tuple(each for each in found if isinstance(each, Job)),
        "pods": tuple(each for each in found if isinstance(each, Pod)),
    }


CASES = [
    Case(
        "a claimed run is cancelled before it has a Job",
        record(CLAIMED, mine="claim"),
        CancelRun(),
        objects(),
    ),
    Case(
        "a run whose pod has not started is cancelled",
        record(RECORDED, mine="claim"),
        CancelRun(),
        objects(job(), pod(waiting="ErrImagePull")),
    ),
    Case(
        "a run that has started is cancelled",
        record(RUNNING, mine="claim"),
        CancelRun(),
        objects(job(), pod(phase="Running")),
    ),
    Case(
        "but not on a state that was read long ago",
        record(RUNNING, mine="claim"),
        RefreshRun(),
        objects(job(), pod(phase="Running")),
        answered_ago=5,
    ),
    Case(
        "a run that waits for its next attempt is cancelled if its Job is suspended",
        record(run(RETRY)),
        CancelRun(),
        objects(job("old", suspended=True)),
    ),
    Case(
        "and stays scheduled if it is being deleted",
        record(run(RETRY)),
        RequeueAfter(5.0),
        objects(job("old", deleting=True), pod("old", phase="Running")),
    ),
    Case(
        "a run that is not claimed stays scheduled",
        record(run(SCHEDULED)),
        ForgetRun(),
        objects(),
    ),
    Case(
        "a run that another worker has claimed is not cancelled",
        record(CLAIMED),
        RefreshStateHistory(),
        objects(job("old", ended="Failed")),
    ),
    Case(
        "a run whose Job failed has crashed",
        record(RUNNING, mine="claim"),
        ReportCrashed,
        objects(job(ended="Failed"), pod(phase="Failed")),
    ),
    Case(
        "a cancelled run is not cancelled again",
        record(CANCELLING, mine="claim"),
        DeleteJob(job()),
        objects(job()),
    ),
    Case(
        "a run that has reported its end may finish its work",
        record(run("COMPLETED", pid=NAME)),
        RequeueAfter,
        objects(job(), pod(phase="Running")),
        ago=1,
    ),
    Case(
        "a pause that keeps its pod is cancelled",
        record(run("PAUSED", pid=NAME)),
        CancelRun(),
        objects(job()),
    ),
    Case(
        "a suspended run has nothing in flight",
        record(run(state("PAUSED", "Suspended"))),
        NoAction(),
        objects(),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=sentence)
def test_the_table_decides(case: Case) -> None:
    check(case)
