"""What holds for every snapshot, whatever the table's rows say."""

from __future__ import annotations

from dataclasses import replace

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
    look,
    pending,
    pod,
    record,
    run,
    since,
    state,
)
from workpool_operator.dispatch.decide import decide
from workpool_operator.dispatch.snapshot import Snapshot
from workpool_operator.dispatch.steps import (
    Cancel,
    Claim,
    Crash,
    CreateJob,
    DeleteJob,
    Explain,
    Forget,
    Later,
    Nothing,
    Read,
    ReadHistory,
    RecordJob,
    Restore,
    Step,
    UndoClaim,
)
from workpool_operator.dispatch.store import JobFault, JobFaultReason, RunRecord

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
        job_confirmed_gone=draw(st.sampled_from(["", NAME])),
        refusal=draw(st.sampled_from([None, QUOTA])),
        job_fault=draw(st.sampled_from([None, NO_JOB])),
        changed_at=draw(st.sampled_from([float("-inf"), NOW + 1])),
    )
    objects = {
        "jobs": tuple({j.name: j for j in draw(st.lists(jobs_st, max_size=3))}.values()),
        "pods": tuple({p.metadata.uid: p for p in draw(st.lists(pods_st, max_size=2))}.values()),
        "gone_jobs": tuple(draw(st.lists(jobs_st, max_size=1))),
        "foreign_jobs": frozenset(draw(st.lists(st.just(NAME), max_size=1))),
    }
    known = since(known, NOW - draw(ages), **objects)
    read = NOW - draw(ages)
    heard = min(NOW, read + draw(st.sampled_from([0.0, 1.0])))
    return look(replace(known, read_at=read, answered_at=heard), **objects)


quickly = settings(max_examples=150, deadline=None)


@quickly
@given(snapshots())
def test_every_snapshot_has_a_step(seen: Snapshot) -> None:
    assert isinstance(decide(seen, POLICY, wall=WALL), Step)


@quickly
@given(snapshots())
def test_nothing_is_ended_on_a_state_that_was_read_before_the_fact(seen: Snapshot) -> None:
    step = decide(seen, POLICY, wall=WALL)
    if isinstance(step, Crash | Cancel | DeleteJob | Restore):
        assert not seen.record.is_stale
        assert seen.age <= POLICY.state_age
    if isinstance(step, Crash) and step.end.message == NO_JOB.message:
        assert seen.record.claim is not None  # the fact was found under this very claim
        assert seen.record.claim.id == NO_JOB.claim_id
    elif isinstance(step, Crash) and seen.run is not None and seen.run.state_type != "SCHEDULED":
        fact = "ended" if seen.current else "gone" if seen.record.refusal is None else "known"
        assert seen.read_since(fact) or seen.read_since("known")


@quickly
@given(snapshots())
def test_a_run_with_a_live_leftover_is_never_claimed(seen: Snapshot) -> None:
    """But for one that was resumed, which the claim adopts."""
    step = decide(seen, POLICY, wall=WALL)
    if seen.overlapping and isinstance(step, Claim):
        resumed = {job.name for job in seen.previous_jobs if not job.suspended}
        assert seen.record.suspended_job in resumed


@quickly
@given(snapshots())
def test_only_a_scheduled_run_that_was_just_offered_is_claimed(seen: Snapshot) -> None:
    if isinstance(decide(seen, POLICY, wall=WALL), Claim):
        assert seen.run is not None
        assert seen.run.state_type == "SCHEDULED"
        assert seen.record.offered_at is not None
        assert seen.now - seen.record.offered_at <= 2


@quickly
@given(snapshots())
def test_a_job_is_made_only_for_a_claim_that_has_none(seen: Snapshot) -> None:
    if isinstance(decide(seen, POLICY, wall=WALL), CreateJob):
        assert seen.record.claim is not None
        assert seen.current is None
        assert seen.recorded_name != seen.current_name
        assert not seen.record.stray_claim
        assert seen.record.job_fault is None


@quickly
@given(snapshots())
def test_a_run_that_nobody_proves_ours_is_never_changed(seen: Snapshot) -> None:
    """Without a claim only a Job of ours, or an offer, gives a right to it."""
    ours = seen.record.claim or seen.jobs or seen.gone_jobs or seen.record.offered_at is not None
    step = decide(seen, POLICY, wall=WALL)
    if not ours:
        passive = Nothing | Forget | Later | Read | ReadHistory | UndoClaim
        assert isinstance(step, passive)


@quickly
@given(snapshots())
def test_the_final_state_of_a_run_is_never_changed(seen: Snapshot) -> None:
    if seen.run is not None and seen.run.final:
        step = decide(seen, POLICY, wall=WALL)
        assert not isinstance(step, Crash | Cancel | Restore | Explain | Claim | RecordJob)


@quickly
@given(snapshots())
def test_jobs_of_another_server_are_not_deleted_for_a_run_that_this_one_lacks(
    seen: Snapshot,
) -> None:
    step = decide(seen, POLICY, wall=WALL)
    if seen.record.missing and isinstance(step, DeleteJob):
        assert step.job.name not in seen.foreign_jobs


def test_a_run_that_prefect_does_not_know_is_settled_in_two_looks() -> None:
    """Each 404 confirms the one before: it must not start the count anew."""
    known = RunRecord()
    steps: list[Step] = []
    for second in range(4):
        now = NOW + second
        seen = look(known, now=now, jobs=(job(),))
        steps.append(decide(seen, POLICY, wall=WALL))
        known = answered(seen.record, None, asked_at=now + 0.1, at=now + 0.2)
    assert [type(step) for step in steps[:3]] == [Read, Read, DeleteJob]
