"""Rules for a claimed run until its container starts: create, record, explain or end. Pure."""

from __future__ import annotations

from datetime import datetime

from workpool_operator.dispatch import dead_nodes, retries, suspended
from workpool_operator.dispatch.ended import ended, gone, is_sure
from workpool_operator.dispatch.observed import Observed
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.steps import (
    Crash,
    CreateJob,
    Diagnose,
    Explain,
    Later,
    Nothing,
    Read,
    ReadHistory,
    RecordJob,
    RenewLease,
    Step,
)
from workpool_operator.jobs import verdict
from workpool_operator.jobs.verdict import End, Wait
from workpool_operator.kube.views import Job

# Sub-states that are named before the Job exists: under them, too, a missing Job is to be created.
BEFORE_JOB = frozenset({"Pending", "Submitting", "QuotaExceeded", "JobRefused", verdict.OUTAGE})


def pending(seen: Observed, policy: Policy, wall: datetime) -> Step:
    """The run is PENDING: ours, somebody else's, or not known yet whose."""
    if seen.claim is None:
        return Nothing() if seen.disowned else ReadHistory()
    if _lease_rest(seen, policy) <= 0:
        return RenewLease()
    if seen.current is None:
        return _without_job(seen, policy, wall)
    if seen.recorded_name != seen.current.name:
        return RecordJob(seen.current.name)
    if seen.current.ended:
        return retries.retry(seen, seen.current, policy) or ended(seen, seen.current, policy)
    if step := dead_nodes.overdue(seen, policy, wall):
        return step
    if step := suspended.pending(seen, seen.current, policy):
        return step
    if seen.started or seen.current.suspended:
        return Later(_lease_rest(seen, policy)) if seen.claim.lease_id else Nothing()
    return _waiting(seen, seen.current, policy, wall)


def _without_job(seen: Observed, policy: Policy, wall: datetime) -> Step:
    assert seen.run is not None
    if seen.recorded_name == seen.current_name or seen.run.state_name not in BEFORE_JOB:
        return gone(seen, policy)
    if step := suspended.claimed(seen):
        return step
    if seen.refusal is None:
        return CreateJob()
    outage = seen.refusal.category == verdict.OUTAGE  # which says nothing about the run
    if not outage and _pending_for(seen, wall) >= policy.pending_timeout:
        return _give_up(seen, seen.refusal, policy)
    if seen.refusal.category != seen.run.state_name:
        return Explain(seen.refusal)
    rest = seen.refused_until - seen.now
    return Later(rest) if rest > 0 else CreateJob()


def _waiting(seen: Observed, job: Job, policy: Policy, wall: datetime) -> Step:
    """The Job exists and no container has started yet."""
    wait = verdict.waiting(seen.pods) or seen.diagnosis
    elapsed = _pending_for(seen, wall)
    if elapsed >= policy.pending_timeout or (wait and wait.hopeless):
        return _give_up(seen, wait, policy)
    assert seen.run is not None
    if wait and wait.category != seen.run.state_name:
        return Explain(wait)
    return _diagnosis(seen, job, policy) or Later(_next_look(seen, policy, elapsed))


def _diagnosis(seen: Observed, job: Job, policy: Policy) -> Step | None:
    """Events say what the objects' own status does not: no pod at all, or no volume for it."""
    if seen.now - seen.diagnosed_at < policy.diagnosis_age:
        return None
    if seen.held("podless") >= policy.podless_grace:
        return Diagnose("Job", job.name)
    if seen.held("creating") >= policy.creating_grace:
        return Diagnose("Pod", seen.pods[-1].metadata.name)
    return None


def _next_look(seen: Observed, policy: Policy, elapsed: float) -> float:
    soon = policy.podless_grace if not seen.pods else policy.diagnosis_age
    return max(0.2, min(soon, policy.pending_timeout - elapsed))


def _give_up(seen: Observed, wait: Wait | None, policy: Policy) -> Step:
    if not is_sure(seen, policy, "known"):
        return Read()
    if wait and wait.hopeless:
        return Crash(End(f"The run can never start. {wait.category}: {wait.message}"))
    return Crash(verdict.never_started(wait, seconds=policy.pending_timeout))


def _lease_rest(seen: Observed, policy: Policy) -> float:
    """Seconds until the deployment's concurrency lease, if there is one, is to be renewed."""
    if seen.claim is None or seen.claim.lease_id is None:
        return policy.lease_renewal
    return policy.lease_renewal - (seen.now - seen.lease_renewed_at)


def _pending_for(seen: Observed, wall: datetime) -> float:
    """Seconds since the latest of the claim, the Job's creation and its start, which a resume sets
    anew. Until the Job controller notes a start, only what this process saw counts."""
    job = seen.current
    stamps = [seen.claim.timestamp if seen.claim else None]
    stamps += [job.metadata.creation_timestamp, job.start_time] if job else []
    elapsed = min([(wall - stamp).total_seconds() for stamp in stamps if stamp], default=0.0)
    if job is None:
        return min(elapsed, _refused_for(seen, wall))
    return elapsed if job.start_time else min(elapsed, seen.held("unsuspended"))


def _refused_for(seen: Observed, wall: datetime) -> float:
    """Seconds since the Job was first refused, as far as this process, or the sub-state, knows."""
    assert seen.run is not None
    assert seen.refusal is not None
    state = seen.run.state
    named = seen.refusal.category == seen.run.state_name and state and state.timestamp
    return max(seen.held("refused"), (wall - named).total_seconds() if named else 0.0)
