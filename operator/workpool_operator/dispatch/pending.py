"""Rules for a claimed run until the flow's container starts: create, record, explain or end; also
for the later pods of its Job. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from workpool_operator.dispatch import dead_nodes, retries, sidecars, suspended
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
    Report,
    Step,
)
from workpool_operator.jobs import verdict
from workpool_operator.jobs.verdict import End, Wait
from workpool_operator.kube.views import Job, Pod

# Sub-states that are named before the Job exists: under them, too, a missing Job is to be created.
BEFORE_JOB = frozenset({"Pending", "Submitting", "QuotaExceeded", "JobRefused", verdict.OUTAGE})


def pending(seen: Observed, policy: Policy, wall: datetime) -> Step:
    """The run is PENDING: ours, somebody else's, or not known yet whose."""
    if seen.claim is None:
        return Nothing() if seen.disowned else ReadHistory()
    if _lease_rest(seen, policy) <= 0:
        return RenewLease() if seen.age <= policy.state_age else Read()
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
    if step := sidecars.unreported(seen, seen.current, policy):
        return step
    if _is_under_way(seen) or seen.current.suspended:
        return Later(_lease_rest(seen, policy)) if seen.claim.lease_id else Nothing()
    return _waiting(seen, seen.current, policy, wall)


def later_pod(seen: Observed, job: Job, policy: Policy, wall: datetime) -> Step:
    """The run is RUNNING; a pod that the Job started in the place of another may wait as the first
    one did."""
    if seen.newest is None or seen.newest.deleting or _is_under_way(seen) or job.suspended:
        return Nothing()
    return _waiting(seen, job, policy, wall)


def _is_under_way(seen: Observed) -> bool:
    """The newest pod has started the flow's container, or is over: then the Job goes on."""
    return seen.newest is not None and (seen.newest.started or seen.newest.ended)


def _without_job(seen: Observed, policy: Policy, wall: datetime) -> Step:
    assert seen.run is not None
    if seen.recorded_name == seen.current_name or seen.run.state_name not in BEFORE_JOB:
        return gone(seen, policy)
    if step := suspended.claimed(seen):
        return step
    if seen.refusal is None:
        return CreateJob()
    outage = seen.refusal.category == verdict.OUTAGE  # says nothing of the run unless it is alone
    waited = seen.refused_alone if outage else _pending_for(seen, wall)
    if waited >= _timeout(seen, policy):
        return _give_up(seen, seen.refusal, policy)
    if seen.refusal.category != seen.run.state_name:
        return Explain(seen.refusal)
    rest = seen.refused_until - seen.now
    return Later(rest) if rest > 0 else CreateJob()


def _waiting(seen: Observed, job: Job, policy: Policy, wall: datetime) -> Step:
    """The Job exists and the flow's container has not started in its newest pod."""
    wait = verdict.waiting(seen.newest, wall) or seen.diagnosis
    works = seen.newest is not None and verdict.is_initializing(seen.newest)
    elapsed = _waited(seen, wall)
    if (elapsed >= _timeout(seen, policy) and not works) or (wait and wait.hopeless):
        return _give_up(seen, wait, policy)
    tell = _telling(seen, job, wait) if wait else None
    look = None if works else _diagnosis(seen, job, policy)
    return tell or look or Later(_next_look(seen, policy, elapsed))


def _telling(seen: Observed, job: Job, wait: Wait) -> Step | None:
    """Prefect refuses a RUNNING run a sub-state, and any run one of the same name."""
    assert seen.run is not None
    if seen.run.state_type == "PENDING":
        return Explain(wait) if wait.category != seen.run.state_name else None
    pod = seen.newest
    if pod is None or seen.reported == (pod.metadata.name, wait.category):
        return None
    return Report(wait, job, pod)


def _diagnosis(seen: Observed, job: Job, policy: Policy) -> Step | None:
    """Events say what the objects' own status does not: no pod at all, or no volume for it."""
    if seen.now - seen.diagnosed_at < policy.diagnosis_age:
        return None
    if seen.held("podless") >= policy.podless_grace:
        return Diagnose("Job", job.name)
    if seen.newest and seen.held("creating") >= policy.creating_grace:
        return Diagnose("Pod", seen.newest.metadata.name)
    return None


def _next_look(seen: Observed, policy: Policy, elapsed: float) -> float:
    soon = policy.podless_grace if not seen.pods else policy.diagnosis_age
    return max(0.2, min(soon, _timeout(seen, policy) - elapsed))


def _give_up(seen: Observed, wait: Wait | None, policy: Policy) -> Step:
    if not is_sure(seen, policy, "known"):
        return Read()
    if wait and wait.hopeless:
        return Crash(End(f"The run can never start. {wait.category}: {wait.message}"))
    return Crash(verdict.never_started(wait, seen.newest, seconds=_timeout(seen, policy)))


def _lease_rest(seen: Observed, policy: Policy) -> float:
    """Seconds until the deployment's concurrency lease, if there is one, is to be renewed."""
    if seen.claim is None or seen.claim.lease_id is None:
        return policy.lease_renewal
    return policy.lease_renewal - (seen.now - seen.lease_renewed_at)


def _waited(seen: Observed, wall: datetime) -> float:
    """Seconds that the newest pod has kept the run waiting: its working init containers did not."""
    pod = seen.newest
    if pod is None:
        return _pending_for(seen, wall)
    elapsed = _pending_for(seen, wall)
    if since := _made_later(seen, pod):
        elapsed = (wall - since).total_seconds()
    return elapsed - verdict.initializing_seconds(pod, wall)


def _made_later(seen: Observed, pod: Pod) -> datetime | None:
    """When the Job made the pod in the place of another; of a RUNNING run any that has not started
    is one, unless the cache has yet to see it start."""
    assert seen.run is not None
    created = pod.metadata.creation_timestamp or _EPOCH
    if seen.run.state_type == "PENDING":
        return created if len(seen.pods) > 1 else None
    running = seen.run.state.timestamp if seen.run.state else None
    return max(created, running or _EPOCH)


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


def _timeout(seen: Observed, policy: Policy) -> int:
    """Seconds that the run may wait: its own, else the binding's."""
    return seen.pending_timeout or policy.pending_timeout


_EPOCH = datetime.fromtimestamp(0, UTC)
