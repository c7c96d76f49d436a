"""The rows of the decision table for runs that have ended, or that Prefect does not know."""

from __future__ import annotations

import pytest

from tests.support.decisions import (
    FAILED,
    FINAL,
    NAME,
    RUNNING,
    Case,
    check,
    sentence,
)
from tests.support.snapshots import (
    NOW,
    job,
    pod,
    record,
    run,
    state,
)
from workpool_operator.runs.actions import DeleteJob, ForgetRun, RefreshRun, RequeueAfter, SetJobTTL
from workpool_operator.runs.store import RunRecord

CASES = [
    # Final
    *[
        case
        for type_ in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        for case in (
            Case(
                f"the Job of a {type_} run has time to end after its pod",
                record(run(type_, pid=NAME)),
                RequeueAfter(20.0),
                {"jobs": (job(),), "pods": (pod(phase="Succeeded", exit_code=0),)},
                ago=10,
            ),
            Case(
                f"one that does not end by itself is marked with the state {type_} and deleted",
                record(run(type_, pid=NAME)),
                DeleteJob(job(), final=state(type_)),
                {"jobs": (job(),), "pods": (pod(phase="Succeeded", exit_code=0),)},
            ),
            Case(
                f"a Job of a {type_} run that never started is deleted at once",
                record(run(type_, pid=NAME)),
                DeleteJob(job(), final=state(type_)),
                {"jobs": (job(),)},
                ago=0,
            ),
            Case(
                f"a {type_} run is read before its Job is deleted",
                record(run(type_, pid=NAME)),
                RefreshRun(),
                {"jobs": (job(),)},
                answered_ago=10,
            ),
            Case(
                f"the TTL of a {type_} run's Job is set",
                record(run(type_, pid=NAME)),
                SetJobTTL(FAILED),
                {"jobs": (FAILED,)},
            ),
            Case(
                f"a {type_} run whose Job has its TTL is forgotten",
                record(run(type_, pid=NAME)),
                ForgetRun(),
                {"jobs": (job(ended="Complete", ttl=60),)},
            ),
        )
    ],
    Case(
        "a pod that the operator terminated may have reported the end",
        record(run("CRASHED", pid=NAME)),
        RefreshRun(),
        {"deleted_jobs": (job(annotations=FINAL),)},
        ago=0,
        answered_ago=5,
    ),
    Case(
        "its run is forgotten if it did not",
        record(run("CRASHED", pid=NAME)),
        ForgetRun(),
        {"deleted_jobs": (job(annotations=FINAL),)},
    ),
    # Unknown to Prefect
    Case(
        "the Job of a deleted run is deleted",
        record(None, missing=True),
        DeleteJob(job()),
        {"jobs": (job(),)},
    ),
    Case(
        "the Job of a run of another server is not changed",
        record(None, missing=True),
        ForgetRun(),
        {"jobs": (job(),), "foreign_jobs": frozenset({NAME})},
    ),
    Case("a deleted run without Jobs is forgotten", record(None, missing=True), ForgetRun()),
    Case(
        "the run of a Job is read if it is not known yet",
        RunRecord(),
        RefreshRun(),
        {"jobs": (job(),)},
    ),
    Case(
        "a Job whose end is reported needs no read of its run",
        RunRecord(),
        ForgetRun(),
        {"jobs": (job(ended="Complete", ttl=60),)},
    ),
    Case(
        "a state that may be stale is read again",
        record(RUNNING, stale_since=NOW + 1),
        RefreshRun(),
        {"jobs": (FAILED,)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=sentence)
def test_the_table_decides(case: Case) -> None:
    check(case)
