"""The rows of the decision table for runs that wait for their first or next attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.decisions import (
    FINAL,
    NAME,
    POLICY,
    RETRY,
    SCHEDULED,
    UI_RETRY,
    Case,
    check,
    offered,
    sentence,
)
from tests.support.snapshots import (
    WALL,
    job,
    job_name,
    pod,
    record,
    run,
    snapshot_of,
    state,
)
from workpool_operator.runs.actions import (
    ClaimRun,
    ConfirmJobDeleted,
    DeleteJob,
    DropOffer,
    ForgetRun,
    NoAction,
    PollAgain,
    RefreshRun,
    RefreshStateHistory,
    ReportCrashed,
    RequeueAfter,
    Reschedule,
    RestoreState,
    SetJobTTL,
)
from workpool_operator.runs.decide import decide

CASES = [
    # SCHEDULED
    Case("an offered run is claimed", offered(run(SCHEDULED)), ClaimRun()),
    Case("a run that was not offered is not claimed", record(run(SCHEDULED)), ForgetRun()),
    Case(
        "an expired offer is not claimed",
        offered(run(SCHEDULED), ago=2.5),
        DropOffer(is_expired=True),
    ),
    Case(
        "the record of a refused run is kept until the time of the refusal",
        record(run(SCHEDULED), not_before=WALL + timedelta(seconds=30)),
        RequeueAfter(30.0),
    ),
    Case(
        "a run that was put off is polled again when it is due",
        record(run(SCHEDULED), not_before=WALL - timedelta(seconds=1)),
        PollAgain(),
    ),
    Case(
        "the refused claims of a run are counted, so that each one defers it longer",
        record(run(SCHEDULED), refused_claims=2),
        NoAction(),
    ),
    Case(
        "a previous Job that still runs is waited for",
        record(run(RETRY)),
        RequeueAfter,
        {"jobs": (job("old"),), "pods": (pod("old", phase="Running"),)},
        ago=1,
    ),
    Case(
        "an offer is withdrawn while a previous Job runs",
        offered(run(RETRY)),
        DropOffer(),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a previous Job that does not end by itself is deleted",
        record(run(RETRY)),
        DeleteJob(job("old")),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a suspended previous Job counts as running",
        offered(run(RETRY)),
        DropOffer(),
        {"jobs": (job("old", suspended=True),)},
    ),
    Case(
        "a previous Job is not deleted on a state that was read long ago",
        record(run(RETRY)),
        RefreshRun(),
        {"jobs": (job("old"),)},
        answered_ago=10,
    ),
    Case(
        "the pods of a deleted previous Job are waited for",
        offered(run(RETRY)),
        DropOffer(),
        {"pods": (pod("old", phase="Running"),)},
    ),
    Case(
        "pods without a Job end by themselves",
        record(run(RETRY)),
        RequeueAfter,
        {"pods": (pod("old", phase="Running"),)},
    ),
    Case(
        "a previous Job that the operator ended records how its run ended",
        record(run(RETRY)),
        RestoreState(state("CRASHED", "Crashed", message="out of memory")),
        {"jobs": (job("old", ended="Failed", annotations=FINAL),)},
    ),
    Case(
        "so does one that is already deleted",
        record(run(RETRY)),
        RestoreState(state("CRASHED", "Crashed", message="out of memory")),
        {"deleted_jobs": (job("old", annotations=FINAL),)},
    ),
    Case(
        "a user's retry of a run that the operator ended is kept",
        offered(run(UI_RETRY)),
        ClaimRun(),
        {"jobs": (job("old", ended="Failed", ttl=60, annotations=FINAL),)},
    ),
    Case(
        "a retry that the SIGTERM of a deadline scheduled is undone",
        record(run(RETRY, pid=job_name("old"))),
        ReportCrashed,
        {"jobs": (job("old", ended="Failed", reason="DeadlineExceeded"),)},
    ),
    Case(
        "a run that exceeded its deadline before its last claim can run again",
        offered(run(UI_RETRY, pid=job_name("old"))),
        ClaimRun(),
        {"jobs": (job("old", ended="Failed", reason="DeadlineExceeded", ttl=60),)},
    ),
    Case(
        "the TTL of a previous Job begins, because its end needs no report",
        offered(run(UI_RETRY)),
        SetJobTTL(job("old", ended="Failed")),
        {"jobs": (job("old", ended="Failed"),)},
    ),
    Case(
        "a poll does not show why a run with a previous Job is scheduled",
        offered(None),
        RefreshRun(),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a retry in the run's own process is left to that process",
        record(run(RETRY, empirical_policy={"retry_type": "in_process"})),
        NoAction(),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a retry whose process vanished is rescheduled",
        record(run(UI_RETRY, empirical_policy={"retry_type": "in_process"})),
        Reschedule(run(UI_RETRY, empirical_policy={"retry_type": "in_process"})),
        {"jobs": (job("old", ended="Failed"),)},
    ),
]


IN_PROCESS = run(RETRY, pid=NAME, empirical_policy={"retry_type": "in_process"})
VANISHED = [
    Case("the claim of a retry must be known", record(IN_PROCESS), RefreshStateHistory()),
    Case(
        "the retry of another worker's run is not changed",
        record(IN_PROCESS, foreign_state_id=IN_PROCESS.state.id if IN_PROCESS.state else None),
        NoAction(),
    ),
    Case(
        "the caches have time to catch up",
        record(IN_PROCESS, mine="claim"),
        RequeueAfter(3.0),
        ago=2,
    ),
    Case(
        "a GET confirms that the Job does not exist",
        record(IN_PROCESS, mine="claim"),
        ConfirmJobDeleted(NAME),
    ),
    Case(
        "without a Job no process retries it",
        record(IN_PROCESS, mine="claim", job_confirmed_deleted=NAME),
        Reschedule(IN_PROCESS),
    ),
    Case(
        "that is not decided on a state that was read long ago",
        record(IN_PROCESS, mine="claim", job_confirmed_deleted=NAME),
        RefreshRun(),
        answered_ago=5,
    ),
    Case(
        "while its Job runs the process retries by itself",
        record(IN_PROCESS, mine="claim"),
        NoAction(),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
    ),
]


@pytest.mark.parametrize("case", VANISHED, ids=sentence)
def test_a_retry_whose_process_vanished_unobserved(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", CASES, ids=sentence)
def test_the_table_decides(case: Case) -> None:
    check(case)


def test_an_offered_run_is_not_claimed_while_claims_are_held() -> None:
    seen = replace(snapshot_of(offered(run(SCHEDULED))), claims_held=True)
    assert decide(seen, POLICY, wall=WALL) == DropOffer(is_expired=True)
