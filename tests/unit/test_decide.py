"""One row of the decision table, or one rule, per statement; then what holds for every snapshot."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.snapshots import (
    NOW,
    WALL,
    claim,
    id_of,
    job,
    job_name,
    look,
    pending,
    pod,
    record,
    run,
    state,
)
from workpool_operator.dispatch.decide import decide
from workpool_operator.dispatch.ledger import Record
from workpool_operator.dispatch.observed import Observed
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.steps import (
    Cancel,
    Claim,
    ConfirmGone,
    Crash,
    CreateJob,
    DeleteJob,
    Diagnose,
    Explain,
    Forget,
    Later,
    Nothing,
    Read,
    ReadHistory,
    RecordJob,
    RenewLease,
    Reschedule,
    Restore,
    StartTtl,
    Step,
    UndoClaim,
    Withdraw,
)
from workpool_operator.jobs.verdict import Wait
from workpool_operator.kube.views import FINAL_STATE_ANNOTATION

POLICY = Policy()
LONG = 1000.0
NAME = job_name()
FINAL = {FINAL_STATE_ANNOTATION: "CRASHED/Crashed/out of memory"}
QUOTA = Wait("QuotaExceeded", "exceeded quota")
SCHEDULED = state("SCHEDULED", "Scheduled", scheduled_time=WALL)
RETRY = state("SCHEDULED", "AwaitingRetry", scheduled_time=WALL)
UI_RETRY = state("SCHEDULED", "AwaitingRetry", message="Retry from the UI", scheduled_time=WALL)
CLAIMED = run(pending())
RECORDED = run(pending(), pid=NAME)
RUNNING = run("RUNNING", pid=NAME, start_time=WALL)
CANCELLING = run("CANCELLING", pid=NAME)
STOPPING = run("CANCELLING", pid=NAME, start_time=WALL)
FAILED = job(ended="Failed", reason="BackoffLimitExceeded")
DEADLINE = job(ended="Failed", reason="DeadlineExceeded")


@dataclass(frozen=True)
class Case:
    """`ago`: for how long every fact has held; `heard`: how long ago the state was heard."""

    sentence: str
    known: Record
    step: type[Step] | Step
    objects: dict[str, Any] = field(default_factory=dict)
    ago: float = LONG
    heard: float = 0.0


def decide_at(case: Case, *, now: float = NOW) -> Step:
    known = deepcopy(case.known)
    known.read_at = known.heard_at = NOW - case.ago - 1
    look(known, now=NOW - case.ago, **case.objects)
    known.read_at = known.heard_at = NOW - case.heard
    return decide(look(known, now=now, **case.objects), POLICY, wall=WALL)


def offered(current: Any, ago: float = 0.5, **fields: Any) -> Record:
    return record(current, offered_at=NOW - ago, **fields)


def waiting_for(wait: Wait, **fields: Any) -> Record:
    return record(CLAIMED, mine="claim", refusal=wait, **fields)


CASES = [
    # SCHEDULED
    Case("an offered run is claimed", offered(run(SCHEDULED)), Claim()),
    Case("a run that was not offered is not claimed", record(run(SCHEDULED)), Forget()),
    Case(
        "an offer of long ago is not claimed on",
        offered(run(SCHEDULED), ago=2.5),
        Withdraw(late=True),
    ),
    Case(
        "a refused run is remembered until the time that the refusal names",
        record(run(SCHEDULED), not_before=WALL + timedelta(seconds=30)),
        Later(30.0),
    ),
    Case(
        "a refused run whose time has come is left to the next poll",
        record(run(SCHEDULED), not_before=WALL - timedelta(seconds=1)),
        Forget(),
    ),
    Case(
        "a leftover that still runs is waited for",
        record(run(RETRY)),
        Later,
        {"jobs": (job("old"),), "pods": (pod("old", phase="Running"),)},
        ago=1,
    ),
    Case(
        "an offer is withdrawn while a leftover runs",
        offered(run(RETRY)),
        Withdraw(),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a leftover that does not end by itself is deleted",
        record(run(RETRY)),
        DeleteJob(job("old")),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a suspended leftover counts as alive",
        offered(run(RETRY)),
        Withdraw(),
        {"jobs": (job("old", suspended=True),)},
    ),
    Case(
        "a leftover is not deleted on a state read long ago",
        record(run(RETRY)),
        Read(),
        {"jobs": (job("old"),)},
        heard=10,
    ),
    Case(
        "the pods of a leftover whose Job is gone are waited for",
        offered(run(RETRY)),
        Withdraw(),
        {"pods": (pod("old", phase="Running"),)},
    ),
    Case(
        "pods without a Job end by themselves",
        record(run(RETRY)),
        Later,
        {"pods": (pod("old", phase="Running"),)},
    ),
    Case(
        "a leftover that we ended says how its run had ended",
        record(run(RETRY)),
        Restore(state("CRASHED", "Crashed", message="out of memory")),
        {"jobs": (job("old", ended="Failed", annotations=FINAL),)},
    ),
    Case(
        "so does one that is gone already",
        record(run(RETRY)),
        Restore(state("CRASHED", "Crashed", message="out of memory")),
        {"gone_jobs": (job("old", annotations=FINAL),)},
    ),
    Case(
        "a person's retry of a run that we ended stands",
        offered(run(UI_RETRY)),
        Claim(),
        {"jobs": (job("old", ended="Failed", ttl=60, annotations=FINAL),)},
    ),
    Case(
        "a retry that a deadline's SIGTERM brought about is no retry",
        record(run(RETRY, pid=job_name("old"))),
        Crash,
        {"jobs": (job("old", ended="Failed", reason="DeadlineExceeded"),)},
    ),
    Case(
        "a run that ran into its deadline before its last claim may run again",
        offered(run(UI_RETRY, pid=job_name("old"))),
        Claim(),
        {"jobs": (job("old", ended="Failed", reason="DeadlineExceeded", ttl=60),)},
    ),
    Case(
        "the TTL of a leftover begins, for its end needs no report any more",
        offered(run(UI_RETRY)),
        StartTtl(job("old", ended="Failed")),
        {"jobs": (job("old", ended="Failed"),)},
    ),
    Case(
        "a poll does not say why a run with a leftover is scheduled",
        offered(None),
        Read(),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a retry in the process that runs it is left to that process",
        record(run(RETRY, empirical_policy={"retry_type": "in_process"})),
        Nothing(),
        {"jobs": (job("old"),)},
    ),
    Case(
        "a retry in a process that is gone is rescheduled",
        record(run(UI_RETRY, empirical_policy={"retry_type": "in_process"})),
        Reschedule(),
        {"jobs": (job("old", ended="Failed"),)},
    ),
    # PENDING
    Case("a claimed run without a Job gets one", record(CLAIMED, mine="claim"), CreateJob()),
    Case(
        "a rescheduled run's earlier Job is not its new claim's",
        record(run(pending(), pid=job_name("old")), mine="claim"),
        CreateJob(),
        {"jobs": (job("old", ended="Failed", ttl=60),)},
    ),
    Case("a Pending run of unknown origin is looked up", record(run("PENDING")), ReadHistory()),
    Case(
        "a Pending run of somebody else's is left alone",
        record(run("PENDING"), disowned=id_of("PENDING")),
        Nothing(),
    ),
    Case(
        "a Job that exists is recorded",
        record(CLAIMED, mine="claim"),
        RecordJob(NAME),
        {"jobs": (job(),)},
    ),
    Case(
        "a renamed run's Job is still its own",
        record(run(pending(), pid=NAME, name="renamed"), mine="claim"),
        ConfirmGone(NAME),
    ),
    Case(
        "a Job that was recorded and is gone is not made again",
        record(RECORDED, mine="claim"),
        ConfirmGone(NAME),
    ),
    Case(
        "under a sub-state of a Job that existed a missing Job is gone",
        record(run(pending(name="Unschedulable")), mine="claim"),
        ConfirmGone(NAME),
    ),
    Case(
        "a lease is renewed while the Job is waited for",
        record(RECORDED, claim=claim(lease_id=id_of("lease"))),
        RenewLease(),
        {"jobs": (job(),)},
    ),
    Case(
        "a lease is renewed while a suspended Job waits",
        record(RECORDED, claim=claim(lease_id=id_of("lease")), lease_renewed_at=NOW - 40),
        Later(POLICY.lease_renewal - 40),
        {"jobs": (job(suspended=True),)},
    ),
    Case(
        "a lease is renewed while the container starts the flow",
        record(RECORDED, claim=claim(lease_id=id_of("lease")), lease_renewed_at=NOW - 40),
        Later(POLICY.lease_renewal - 40),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
    ),
    Case(
        "a lease is renewed while the quota is full",
        waiting_for(QUOTA, claim=claim(lease_id=id_of("lease"))),
        RenewLease(),
    ),
    Case(
        "a pod's wait is named",
        record(RECORDED, mine="claim"),
        Explain,
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull", message="no such image"),)},
    ),
    Case(
        "a wait is named once",
        record(run(pending(name="ImagePullBackOff"), pid=NAME), mine="claim"),
        Later,
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull"),)},
        ago=1,
    ),
    Case(
        "a wait that nothing can end ends the run",
        record(RECORDED, mine="claim"),
        Crash,
        {"jobs": (job(),), "pods": (pod(waiting="InvalidImageName"),)},
    ),
    Case(
        "a wait of more than the pending time-out ends the run",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(seconds=601))),
        Crash,
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull"),)},
    ),
    Case(
        "the time-out of a Job that was suspended starts when it is resumed",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(hours=2))),
        Explain,
        {
            "jobs": (job(started_at=WALL - timedelta(seconds=5)),),
            "pods": (pod(waiting="ErrImagePull"),),
        },
    ),
    Case(
        "a suspended Job is waited for, however long",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(hours=2))),
        Nothing(),
        {"jobs": (job(suspended=True),)},
    ),
    Case(
        "a started container is waited for, however long",
        record(RECORDED, claim=claim(timestamp=WALL - timedelta(hours=2))),
        Nothing(),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
    ),
    Case(
        "a Job without pods is asked why",
        record(RECORDED, mine="claim"),
        Diagnose("Job", NAME),
        {"jobs": (job(),)},
    ),
    Case(
        "a pod without containers is asked why",
        record(RECORDED, mine="claim"),
        Diagnose("Pod", "pod-claim"),
        {"jobs": (job(),), "pods": (pod(),)},
    ),
    Case("a refusal that passes is named", waiting_for(QUOTA), Explain(QUOTA)),
    Case(
        "a refused Job is tried again later",
        record(
            run(pending(name="QuotaExceeded")),
            mine="claim",
            refusal=QUOTA,
            refused_until=NOW + 7,
        ),
        Later(7.0),
    ),
    Case(
        "and then again",
        record(run(pending(name="QuotaExceeded")), mine="claim", refusal=QUOTA),
        CreateJob(),
    ),
    Case("a phantom claim is undone", record(CLAIMED, mine="claim", phantom=True), UndoClaim()),
    # PENDING or RUNNING, and the Job over
    *[
        case
        for where, known in (
            ("pending", record(RECORDED, mine="claim")),
            ("running", record(RUNNING)),
        )
        for case in (
            Case(f"a {where} run whose Job failed crashes", known, Crash, {"jobs": (FAILED,)}),
            Case(
                f"a {where} run is read before its failed Job crashes it",
                known,
                Read(),
                {"jobs": (FAILED,)},
                heard=10,
            ),
            Case(
                f"a {where} run whose Job completed has time to report",
                known,
                Later(7.0),
                {"jobs": (job(ended="Complete"),)},
                ago=3,
            ),
            Case(
                f"a {where} run that exited 0 without a report crashes",
                known,
                Crash,
                {"jobs": (job(ended="Complete"),)},
            ),
            Case(
                f"the failed Job of an earlier claim says nothing about a {where} run",
                known,
                Later if where == "pending" else Nothing(),
                {
                    "jobs": (job("old", ended="Failed"), job()),
                    "pods": (pod(waiting="ContainerCreating"),),
                },
                ago=1,
            ),
        )
    ],
    # RUNNING
    Case("a running run is left to its pod", record(RUNNING), Nothing(), {"jobs": (job(),)}),
    Case("a running run whose Job is not ours to see is looked up", record(RUNNING), ReadHistory()),
    Case(
        "a running run of somebody else's is left alone",
        record(RUNNING, disowned=id_of("RUNNING")),
        Nothing(),
    ),
    Case(
        "a running run without a pid is looked up",
        record(run("RUNNING")),
        ReadHistory(),
        {"jobs": (job(),)},
    ),
    Case(
        "a Job that was made before a crash of the operator is recorded late",
        record(run("RUNNING"), mine="claim"),
        RecordJob(NAME),
        {"jobs": (job(),)},
    ),
    Case("a vanished Job is confirmed", record(RUNNING, mine="claim"), ConfirmGone(NAME)),
    Case("a cache that lags is given time", record(RUNNING, mine="claim"), Later(4.0), ago=1),
    Case(
        "a Job whose pod still runs is not gone",
        record(RUNNING, mine="claim"),
        Later(5.0),
        {"pods": (pod(phase="Running"),)},
    ),
    Case(
        "a vanished Job crashes its run",
        record(RUNNING, mine="claim", job_confirmed_gone=NAME),
        Crash,
    ),
    Case(
        "a run is read before its vanished Job crashes it",
        record(RUNNING, mine="claim", job_confirmed_gone=NAME),
        Read(),
        heard=10,
    ),
    # PAUSED
    Case(
        "a blocking pause needs its pod",
        record(run("PAUSED", pid=NAME)),
        Crash,
        {"jobs": (FAILED,)},
    ),
    Case(
        "a suspended run needs none",
        record(run(state("PAUSED", "Suspended", pause_reschedule=True), pid=NAME)),
        StartTtl(FAILED),
        {"jobs": (FAILED,)},
    ),
    Case(
        "a suspended run without Jobs is left alone",
        record(run(state("PAUSED", "Suspended", pause_reschedule=True), pid=NAME)),
        Nothing(),
    ),
    Case("a pause is let go on", record(run("PAUSED", pid=NAME)), Nothing(), {"jobs": (job(),)}),
    # CANCELLING
    Case(
        "a cancelled run that never started loses its Job",
        record(CANCELLING, mine="claim"),
        DeleteJob(job()),
        {"jobs": (job(),)},
    ),
    Case(
        "and is cancelled while that is deleted",
        record(CANCELLING, mine="claim"),
        Cancel,
        {"jobs": (job(deleting=True),)},
    ),
    Case("a cancelled run without a Job is cancelled", record(CANCELLING, mine="claim"), Cancel),
    Case(
        "a cancelled flow may end by itself",
        record(STOPPING),
        Later(50.0),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
        ago=10,
    ),
    Case(
        "one that does not loses its Job",
        record(STOPPING),
        DeleteJob(job()),
        {"jobs": (job(),), "pods": (pod(phase="Running"),)},
    ),
    Case(
        "a second attempt that never started is not given that time",
        record(STOPPING),
        DeleteJob(job()),
        {"jobs": (job(),), "pods": (pod(waiting="ErrImagePull"),)},
        ago=1,
    ),
    Case("whose run is cancelled is looked up", record(run("CANCELLING")), ReadHistory()),
    Case(
        "a leftover of ours does not make a cancelled run ours",
        record(run("CANCELLING", pid="elsewhere"), disowned=id_of("CANCELLING")),
        Nothing(),
        {"jobs": (job("old", ended="Failed"),)},
    ),
    # Final
    *[
        case
        for type_ in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        for case in (
            Case(
                f"a {type_} run's Job may end by itself",
                record(run(type_, pid=NAME)),
                Later(20.0),
                {"jobs": (job(),), "pods": (pod(phase="Running"),)},
                ago=10,
            ),
            Case(
                f"a Job that outlives its {type_} run is marked with the state and deleted",
                record(run(type_, pid=NAME)),
                DeleteJob(job(), final=state(type_)),
                {"jobs": (job(),), "pods": (pod(phase="Running"),)},
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
                Read(),
                {"jobs": (job(),)},
                heard=10,
            ),
            Case(
                f"the TTL of a {type_} run's Job begins",
                record(run(type_, pid=NAME)),
                StartTtl(FAILED),
                {"jobs": (FAILED,)},
            ),
            Case(
                f"a {type_} run whose Job has its TTL is forgotten",
                record(run(type_, pid=NAME)),
                Forget(),
                {"jobs": (job(ended="Complete", ttl=60),)},
            ),
        )
    ],
    Case(
        "a pod that we ended may have had the last word",
        record(run("CRASHED", pid=NAME)),
        Read(),
        {"gone_jobs": (job(annotations=FINAL),)},
        ago=0,
        heard=5,
    ),
    Case(
        "its run is forgotten when it had not",
        record(run("CRASHED", pid=NAME)),
        Forget(),
        {"gone_jobs": (job(annotations=FINAL),)},
    ),
    # Unknown to Prefect
    Case(
        "the Job of a deleted run is deleted",
        record(None, missing=True),
        DeleteJob(job()),
        {"jobs": (job(),)},
    ),
    Case(
        "the Job of a run that another server knows is left alone",
        record(None, missing=True),
        Forget(),
        {"jobs": (job(),), "strange": frozenset({NAME})},
    ),
    Case("a deleted run without Jobs is forgotten", record(None, missing=True), Forget()),
    Case("a Job whose run is not known yet is looked up", Record(), Read(), {"jobs": (job(),)}),
    Case(
        "a Job whose end is reported needs no look at its run",
        Record(),
        Forget(),
        {"jobs": (job(ended="Complete", ttl=60),)},
    ),
    Case(
        "a state that something cast doubt on is read again",
        record(RUNNING, doubted_at=NOW + 1),
        Read(),
        {"jobs": (FAILED,)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence.replace(" ", "_"))
def test_row(case: Case) -> None:
    step = decide_at(case)
    if isinstance(case.step, type):
        assert isinstance(step, case.step)
    else:
        assert _plain(step) == _plain(case.step)


def _plain(step: Step) -> str:
    """Without what the table cannot know: the ids and the time of a state that it made itself."""
    if isinstance(step, Restore):
        return f"{step.state.type} {step.state.name} {step.state.message}"
    return repr(step)


# What holds for every snapshot

JOBS = [
    job(id_, ended=ended, reason=reason, ttl=ttl, deleting=deleting, annotations=annotations)
    for id_ in ("claim", "old", "older")
    for ended, reason in (
        ("", ""),
        ("Complete", ""),
        ("Failed", ""),
        ("Failed", "DeadlineExceeded"),
    )
    for ttl in (None, 60)
    for deleting in (False, True)
    for annotations in ({}, FINAL)
] + [job(suspended=True), job("old", suspended=True)]
PODS = [
    pod(id_, phase=phase, waiting=waiting)
    for id_ in ("claim", "old")
    for phase in ("Pending", "Running", "Succeeded", "Failed")
    for waiting in ("", "ErrImagePull", "InvalidImageName", "ContainerCreating")
]
jobs_st = st.sampled_from(JOBS)
pods_st = st.sampled_from(PODS)
ages = st.sampled_from([0.0, 0.5, 3.0, 20.0, 100.0, LONG])
states_st = st.one_of(
    st.sampled_from([SCHEDULED, RETRY, UI_RETRY, pending(), pending(name="QuotaExceeded")]),
    st.sampled_from(
        ["RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
    ).map(state),
    st.just(state("PAUSED", "Suspended", pause_reschedule=True)),
    st.just(state("PENDING", "Submitting", id_="foreign")),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Observed:
    current = draw(states_st)
    recorded = draw(st.sampled_from([None, NAME, job_name("old"), "elsewhere"]))
    known_run = run(
        current,
        pid=recorded,
        start_time=draw(st.sampled_from([None, WALL])),
        empirical_policy=draw(st.sampled_from([{}, {"retry_type": "in_process"}])),
    )
    missing = draw(st.booleans()) and draw(st.booleans())
    mine = current.type not in ("SCHEDULED",) and draw(st.booleans())
    known = record(None if missing else known_run, mine="claim" if mine else "")
    known.missing = missing
    known.offered_at = draw(st.sampled_from([None, NOW, NOW - 5]))
    known.disowned = draw(st.sampled_from([None, current.id]))
    known.job_confirmed_gone = draw(st.sampled_from(["", NAME]))
    known.refusal = draw(st.sampled_from([None, QUOTA]))
    known.doubted_at = draw(st.sampled_from([float("-inf"), NOW + 1]))
    objects = {
        "jobs": tuple({j.name: j for j in draw(st.lists(jobs_st, max_size=3))}.values()),
        "pods": tuple({p.metadata.uid: p for p in draw(st.lists(pods_st, max_size=2))}.values()),
        "gone_jobs": tuple(draw(st.lists(jobs_st, max_size=1))),
        "strange": frozenset(draw(st.lists(st.just(NAME), max_size=1))),
    }
    look(known, now=NOW - draw(ages), **objects)
    known.read_at = NOW - draw(ages)
    known.heard_at = min(NOW, known.read_at + draw(st.sampled_from([0.0, 1.0])))
    return look(known, **objects)


quickly = settings(max_examples=150, deadline=None)


@quickly
@given(snapshots())
def test_every_snapshot_has_a_step(seen: Observed) -> None:
    assert isinstance(decide(seen, POLICY, wall=WALL), Step)


@quickly
@given(snapshots())
def test_nothing_is_ended_on_a_state_that_was_read_before_the_fact(seen: Observed) -> None:
    step = decide(seen, POLICY, wall=WALL)
    if isinstance(step, Crash | Cancel | DeleteJob | Restore):
        assert not seen.stale
        assert seen.age <= POLICY.state_age
    if isinstance(step, Crash) and seen.run is not None and seen.run.state_type != "SCHEDULED":
        fact = "ended" if seen.current else "gone" if seen.refusal is None else "known"
        assert seen.fresh(fact) or seen.fresh("known")


@quickly
@given(snapshots())
def test_a_run_with_a_live_leftover_is_never_claimed(seen: Observed) -> None:
    if seen.overlapping:
        assert not isinstance(decide(seen, POLICY, wall=WALL), Claim)


@quickly
@given(snapshots())
def test_only_a_scheduled_run_that_was_just_offered_is_claimed(seen: Observed) -> None:
    if isinstance(decide(seen, POLICY, wall=WALL), Claim):
        assert seen.run is not None
        assert seen.run.state_type == "SCHEDULED"
        assert seen.offered_at is not None
        assert seen.now - seen.offered_at <= 2


@quickly
@given(snapshots())
def test_a_job_is_made_only_for_a_claim_that_has_none(seen: Observed) -> None:
    if isinstance(decide(seen, POLICY, wall=WALL), CreateJob):
        assert seen.claim is not None
        assert seen.current is None
        assert seen.recorded_name != seen.current_name
        assert not seen.phantom


@quickly
@given(snapshots())
def test_a_run_that_nobody_proves_ours_is_never_changed(seen: Observed) -> None:
    """Without a claim only a Job of ours, or an offer, gives a right to it."""
    ours = seen.claim or seen.jobs or seen.gone_jobs or seen.offered_at is not None
    step = decide(seen, POLICY, wall=WALL)
    if not ours:
        passive = Nothing | Forget | Later | Read | ReadHistory | UndoClaim
        assert isinstance(step, passive)


@quickly
@given(snapshots())
def test_the_final_state_of_a_run_is_never_changed(seen: Observed) -> None:
    if seen.run is not None and seen.run.final:
        step = decide(seen, POLICY, wall=WALL)
        assert not isinstance(step, Crash | Cancel | Restore | Explain | Claim | RecordJob)


@quickly
@given(snapshots())
def test_jobs_of_another_server_are_not_deleted_for_a_run_that_this_one_lacks(
    seen: Observed,
) -> None:
    step = decide(seen, POLICY, wall=WALL)
    if seen.missing and isinstance(step, DeleteJob):
        assert step.job.name not in seen.strange


def test_a_run_that_prefect_does_not_know_is_settled_in_two_looks() -> None:
    """Each 404 confirms the one before: it must not start the count anew."""
    known = Record()
    steps: list[Step] = []
    for second in range(4):
        now = NOW + second
        steps.append(decide(look(known, now=now, jobs=(job(),)), POLICY, wall=WALL))
        known.heard(None, asked_at=now + 0.1, now=now + 0.2)
    assert [type(step) for step in steps[:3]] == [Read, Read, DeleteJob]
