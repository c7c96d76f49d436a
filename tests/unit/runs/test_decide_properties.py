"""Properties of the decision for every snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.decisions import (
    FINAL,
    LONG,
    NAME,
    POLICY,
    QUOTA,
    RETRY,
    SCHEDULED,
    UI_RETRY,
)
from tests.support.snapshots import (
    NOW,
    WALL,
    answered,
    id_of,
    job,
    job_name,
    pending,
    pod,
    record,
    run,
    since,
    snapshot_of,
    state,
)
from workpool_operator.runs.actions import (
    Action,
    CancelRun,
    ClaimRun,
    CreateJob,
    DeleteJob,
    ForgetRun,
    NoAction,
    RecordInfrastructurePid,
    RefreshRun,
    RefreshStateHistory,
    ReportCancelled,
    ReportCrashed,
    ReportWaiting,
    RequeueAfter,
    RestoreState,
    RevertClaim,
)
from workpool_operator.runs.decide import decide
from workpool_operator.runs.snapshot import Snapshot
from workpool_operator.runs.store import Fact, JobFault, JobFaultReason, RunRecord

NO_JOB = JobFault(id_of("claim"), JobFaultReason.REFUSED, "The API server refused the run's Job")
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
def snapshots(draw: st.DrawFn) -> Snapshot:
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
    known = replace(
        known,
        missing=missing,
        offered_at=draw(st.sampled_from([None, NOW, NOW - 5])),
        foreign_state_id=draw(st.sampled_from([None, current.id])),
        job_confirmed_deleted=draw(st.sampled_from(["", NAME])),
        refusal=draw(st.sampled_from([None, QUOTA])),
        job_fault=draw(st.sampled_from([None, NO_JOB])),
        stale_since=draw(st.sampled_from([float("-inf"), NOW + 1])),
    )
    objects: dict[str, Any] = {
        "jobs": tuple({j.name: j for j in draw(st.lists(jobs_st, max_size=3))}.values()),
        "pods": tuple({p.metadata.uid: p for p in draw(st.lists(pods_st, max_size=2))}.values()),
        "deleted_jobs": tuple(draw(st.lists(jobs_st, max_size=1))),
        "foreign_jobs": frozenset(draw(st.lists(st.just(NAME), max_size=1))),
        "cancels": draw(st.booleans()),
    }
    known = since(known, NOW - draw(ages), **objects)
    read = NOW - draw(ages)
    answered = min(NOW, read + draw(st.sampled_from([0.0, 1.0])))
    return snapshot_of(replace(known, read_at=read, answered_at=answered), **objects)


quickly = settings(max_examples=150)


@quickly
@given(snapshots())
def test_every_snapshot_has_an_action(snapshot: Snapshot) -> None:
    assert isinstance(decide(snapshot, POLICY, wall=WALL), Action)


@quickly
@given(snapshots())
def test_no_run_is_ended_on_a_state_that_was_read_before_the_fact(snapshot: Snapshot) -> None:
    action = decide(snapshot, POLICY, wall=WALL)
    if isinstance(action, ReportCrashed | ReportCancelled | DeleteJob | RestoreState):
        assert not snapshot.record.is_stale
        assert snapshot.age <= POLICY.state_age
    if isinstance(action, ReportCrashed) and action.end.message == NO_JOB.message:
        assert snapshot.record.claim is not None  # the fact was found under this very claim
        assert snapshot.record.claim.id == NO_JOB.claim_id
    elif (
        isinstance(action, ReportCrashed)
        and snapshot.run is not None
        and snapshot.run.state_type != "SCHEDULED"
    ):
        fact: Fact = (
            "ended"
            if snapshot.current
            else "vanished"
            if snapshot.record.refusal is None
            else "known"
        )
        assert snapshot.read_since(fact) or snapshot.read_since("known")


@quickly
@given(snapshots())
def test_a_run_whose_previous_job_is_running_is_never_claimed(snapshot: Snapshot) -> None:
    """Except for a Job that was resumed: the claim adopts it."""
    action = decide(snapshot, POLICY, wall=WALL)
    if snapshot.overlapping and isinstance(action, ClaimRun):
        resumed = {job.name for job in snapshot.previous_jobs if not job.suspended}
        assert snapshot.record.suspended_job in resumed


@quickly
@given(snapshots())
def test_only_a_scheduled_run_that_was_just_offered_is_claimed(snapshot: Snapshot) -> None:
    if isinstance(decide(snapshot, POLICY, wall=WALL), ClaimRun):
        assert snapshot.run is not None
        assert snapshot.run.state_type == "SCHEDULED"
        assert snapshot.record.offered_at is not None
        assert snapshot.now - snapshot.record.offered_at <= 2


@quickly
@given(snapshots())
def test_a_job_is_created_only_for_a_claim_that_has_none(snapshot: Snapshot) -> None:
    if isinstance(decide(snapshot, POLICY, wall=WALL), CreateJob):
        assert snapshot.record.claim is not None
        assert snapshot.current is None
        assert snapshot.recorded_name != snapshot.current_name
        assert not snapshot.record.stray_claim
        assert snapshot.record.job_fault is None


@quickly
@given(snapshots())
def test_a_run_without_proof_of_our_claim_is_never_changed(snapshot: Snapshot) -> None:
    """Without a claim, only a Job of ours or an offer allows a change."""
    ours = (
        snapshot.record.claim
        or snapshot.jobs
        or snapshot.deleted_jobs
        or snapshot.record.offered_at is not None
    )
    action = decide(snapshot, POLICY, wall=WALL)
    if not ours:
        passive = (
            NoAction | ForgetRun | RequeueAfter | RefreshRun | RefreshStateHistory | RevertClaim
        )
        assert isinstance(action, passive)


@quickly
@given(snapshots())
def test_the_final_state_of_a_run_is_never_changed(snapshot: Snapshot) -> None:
    if snapshot.run is not None and snapshot.run.final:
        action = decide(snapshot, POLICY, wall=WALL)
        assert not isinstance(
            action,
            ReportCrashed
            | ReportCancelled
            | CancelRun
            | RestoreState
            | ReportWaiting
            | ClaimRun
            | RecordInfrastructurePid,
        )


@quickly
@given(snapshots())
def test_jobs_of_another_server_are_not_deleted_for_a_run_that_this_one_lacks(
    snapshot: Snapshot,
) -> None:
    action = decide(snapshot, POLICY, wall=WALL)
    if snapshot.record.missing and isinstance(action, DeleteJob):
        assert action.job.name not in snapshot.foreign_jobs


def test_the_job_of_a_run_that_prefect_does_not_know_is_deleted_after_two_reads() -> None:
    """Each 404 confirms the one before, and must not restart the age of facts."""
    known = RunRecord()
    actions: list[Action] = []
    for second in range(4):
        now = NOW + second
        seen = snapshot_of(known, now=now, jobs=(job(),))
        actions.append(decide(seen, POLICY, wall=WALL))
        known = answered(seen.record, None, asked_at=now + 0.1, at=now + 0.2)
    assert [type(action) for action in actions[:3]] == [RefreshRun, RefreshRun, DeleteJob]
