"""Rules for a claimed run until the flow's container starts: create, record, explain or end; also
for the later pods of its Job. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from workpool_operator.dispatch.rules import (
    ClaimedInput,
    ClaimedJobRule,
    ClaimedRule,
    Input,
    Rule,
    first,
    lost_nodes,
    retries,
    sidecars,
    suspended,
)
from workpool_operator.dispatch.rules.ended import ended, gone
from workpool_operator.dispatch.snapshot import Snapshot
from workpool_operator.dispatch.steps import (
    Cancel,
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
from workpool_operator.dispatch.store import JobFaultReason
from workpool_operator.jobs import diagnosis
from workpool_operator.jobs.diagnosis import Termination, WaitReason
from workpool_operator.kube.models import Job, Pod

# Sub-states from before the Job exists: under them a missing Job is created.
BEFORE_JOB = frozenset({"Pending", "Submitting", "QuotaExceeded", "JobRefused", diagnosis.OUTAGE})


def identify(given: Input) -> Step:
    """Read the history of a run without a known claim of ours; leave the run alone if the history
    showed that it is another's."""
    return Nothing() if given.seen.record.is_foreign else ReadHistory()


def replacement_pod(given: Input, job: Job) -> Step | None:
    """Report what a replacement pod of a RUNNING run waits for, and crash the run in time: it may
    wait as the first pod did."""
    newest = given.seen.newest
    if newest is None or newest.deleting or _is_under_way(given.seen) or job.suspended:
        return None
    wait = diagnosis.wait_reason(newest, given.wall) or given.seen.diagnosis
    if wait is None or given.seen.record.reported == (newest.metadata.name, wait.category):
        return _waiting(given, job, wait, None)
    return _waiting(given, job, wait, Report(wait, job, newest))


# A claimed run, with or without a Job


def lease_due(given: ClaimedInput) -> Step | None:
    """Renew the lease of the deployment's concurrency slot that came with the claim."""
    lease_id = given.claim.lease_id
    if lease_id is None or _lease_rest(given) > 0:
        return None
    return RenewLease(lease_id) if given.is_recent else Read()


def without_job(given: ClaimedInput) -> Step | None:
    """Apply the rules for a claim whose Job does not exist."""
    return first(WITHOUT_JOB, given) if given.seen.current is None else None


def with_job(given: ClaimedInput) -> Step | None:
    """Apply the rules for a claim whose Job exists."""
    return first(WITH_JOB, given, given.seen.current) if given.seen.current else None


# Without a Job


def job_gone(given: ClaimedInput) -> Step | None:
    """Treat the Job as vanished if it was recorded, or if the sub-state is one that only a Job
    brings about."""
    recorded = given.seen.recorded_name == given.seen.current_name
    return gone(given) if recorded or given.run.state_name not in BEFORE_JOB else None


def job_impossible(given: ClaimedInput) -> Step | None:
    """End a run that can have no Job, with what its creation found and the fix."""
    fault = given.seen.record.job_fault
    if fault is None or fault.claim_id != given.claim.id:
        return None
    if not given.is_recent:
        return Read()
    match fault.reason:
        case JobFaultReason.DEPLOYMENT_NOT_FOUND:
            return Cancel(f"{fault.message}: the run was cancelled.")
        case JobFaultReason.RENDERING_FAILED:
            return Crash(Termination(f"The run's Job cannot be made. {fault.message}"))
        case JobFaultReason.REFUSED:
            return Crash(Termination(fault.message))


def refused_too_long(given: ClaimedInput) -> Step | None:
    """Crash a run whose Job the API server has refused for longer than the pending time-out. An
    outage says nothing about the run unless it is the run's alone."""
    refusal = given.seen.record.refusal
    if refusal is None:
        return None
    if refusal.category == diagnosis.OUTAGE:
        waited = given.seen.refused_alone
    else:
        waited = min(_pending_for(given), _refused_for(given, refusal))
    return _give_up(given, refusal) if waited >= _timeout(given) else None


def refusal_unnamed(given: ClaimedInput) -> Step | None:
    """Report why the API server refuses the Job, unless the sub-state says so already."""
    refusal = given.seen.record.refusal
    if refusal is None or refusal.category == given.run.state_name:
        return None
    return Explain(refusal, given.claim)


def refused_just_now(given: ClaimedInput) -> Step | None:
    """Wait until a refused Job is due to be tried again."""
    record = given.seen.record
    rest = record.refused_until - given.seen.now
    return Later(rest) if record.refusal and rest > 0 else None


def create(given: ClaimedInput) -> Step:
    """Create the Job."""
    return CreateJob(given.claimed)


WITHOUT_JOB: tuple[ClaimedRule, ...] = (
    job_gone,  # there was one, and it vanished
    suspended.claimed,  # an earlier Job goes on: adopt it, and never run two pods at once
    job_impossible,  # Cancelled for a deleted deployment, else Crashed
    refused_too_long,  # Crashed
    refusal_unnamed,
    refused_just_now,
    create,
)


# With a Job


def unrecorded(given: Input, job: Job) -> Step | None:
    """Record the Job's name in Prefect."""
    return RecordJob(job.name) if given.seen.recorded_name != job.name else None


def under_way(given: ClaimedInput, job: Job) -> Step | None:
    """Wait for events once the newest pod has started the flow's container or is over, or while the
    Job is suspended."""
    if not (_is_under_way(given.seen) or job.suspended):
        return None
    return Later(_lease_rest(given)) if given.claim.lease_id else Nothing()


def not_started(given: ClaimedInput, job: Job) -> Step:
    """Report what the newest pod waits for before the flow's container starts, and crash the run in
    time."""
    newest = given.seen.newest
    wait = diagnosis.wait_reason(newest, given.wall) or given.seen.diagnosis
    is_news = wait is not None and wait.category != given.run.state_name
    return _waiting(given, job, wait, Explain(wait, given.claim) if wait and is_news else None)


WITH_JOB: tuple[ClaimedJobRule, ...] = (
    unrecorded,  # write infrastructure_pid
    retries.retry,  # the infrastructure ended it before the flow ran: back to SCHEDULED
    ended,  # Crashed: reason, exit code, remedy, last log lines
    lost_nodes.overdue,  # Crashed, though the pod stays
    suspended.pending,  # say what it waits for, however long
    sidecars.flow_ended,  # only sidecars live: Crashed
    under_way,
    not_started,
)

CLAIMED: tuple[ClaimedRule, ...] = (lease_due, without_job, with_job)


def unclaimed(given: Input) -> Step | None:
    """Find out whose a run without a known claim is; leave another's alone."""
    return identify(given) if given.seen.record.claim is None else None


def claimed(given: Input) -> Step | None:
    """Apply the rules for a run under a claim of ours."""
    if (claim := given.seen.record.claim) is None:
        return None
    return first(CLAIMED, ClaimedInput(given.run, given.seen, given.policy, given.wall, claim))


PENDING: tuple[Rule, ...] = (unclaimed, claimed)


def _is_under_way(seen: Snapshot) -> bool:
    return seen.newest is not None and (seen.newest.started or seen.newest.ended)


def _waiting(given: Input, job: Job, wait: WaitReason | None, tell: Step | None) -> Step:
    """Return the action for a Job whose newest pod has not started the flow's container; `tell`
    reports the wait if that is news. Prefect refuses a RUNNING run a sub-state, and any run a
    sub-state of the same name."""
    newest = given.seen.newest
    works = newest is not None and diagnosis.is_initializing(newest)
    elapsed = _waited(given)
    if (elapsed >= _timeout(given) and not works) or (wait and wait.is_permanent):
        return _give_up(given, wait)
    look = None if works else _diagnosis(given, job)
    return tell or look or Later(_next_look(given, elapsed))


def _diagnosis(given: Input, job: Job) -> Step | None:
    """Read Events if they may explain what the objects' own status does not: no pod at all, or no
    volume for it."""
    seen, policy = given.seen, given.policy
    if seen.now - seen.record.diagnosed_at < policy.diagnosis_age:
        return None
    if seen.seconds_since("podless") >= policy.podless_grace:
        return Diagnose("Job", job.name)
    if seen.newest and seen.seconds_since("creating") >= policy.creating_grace:
        return Diagnose("Pod", seen.newest.metadata.name)
    return None


def _next_look(given: Input, elapsed: float) -> float:
    soon = given.policy.diagnosis_age if given.seen.pods else given.policy.podless_grace
    return max(0.2, min(soon, _timeout(given) - elapsed))


def _give_up(given: Input, wait: WaitReason | None) -> Step:
    if not given.is_sure("known"):
        return Read()
    if wait and wait.is_permanent:
        return Crash(Termination(f"The run can never start. {wait.category}: {wait.message}"))
    return Crash(diagnosis.never_started(wait, given.seen.newest, seconds=_timeout(given)))


def _lease_rest(given: ClaimedInput) -> float:
    """Return the seconds until the deployment's concurrency lease is due for renewal."""
    return given.policy.lease_renewal - (given.seen.now - given.seen.record.lease_renewed_at)


def _waited(given: Input) -> float:
    """Return for how many seconds the newest pod has kept the run waiting, without the time that
    its init containers worked."""
    pod, elapsed = given.seen.newest, _pending_for(given)
    if pod is None:
        return elapsed
    if since := _made_later(given, pod):
        elapsed = (given.wall - since).total_seconds()
    return elapsed - diagnosis.initializing_seconds(pod, given.wall)


def _made_later(given: Input, pod: Pod) -> datetime | None:
    """Return when the Job made the pod as a replacement; None for its first. Any pod of a RUNNING
    run that has not started is one, unless the cache has yet to see it start."""
    created = pod.metadata.creation_timestamp or _EPOCH
    if given.run.state_type == "PENDING":
        return created if len(given.seen.pods) > 1 else None
    running = given.run.state.timestamp if given.run.state else None
    return max(created, running or _EPOCH)


def _pending_for(given: Input) -> float:
    """Return the seconds since the latest of the claim, the Job's creation and its start, which a
    resume sets anew. Until the Job controller notes a start, only what this process saw counts."""
    job, claim = given.seen.current, given.seen.record.claim
    stamps = [claim.timestamp if claim else None]
    stamps += [job.metadata.creation_timestamp, job.start_time] if job else []
    elapsed = min([(given.wall - stamp).total_seconds() for stamp in stamps if stamp], default=0.0)
    if job is None or job.start_time:
        return elapsed
    return min(elapsed, given.seen.seconds_since("unsuspended"))


def _refused_for(given: Input, refusal: WaitReason) -> float:
    """Return the seconds since the Job was first refused, as far as this process or the sub-state
    knows."""
    state = given.run.state
    named = refusal.category == given.run.state_name and state and state.timestamp
    seconds = (given.wall - named).total_seconds() if named else 0.0
    return max(given.seen.seconds_since("refused"), seconds)


def _timeout(given: Input) -> int:
    """Return for how many seconds the run may wait: its own limit, else the binding's."""
    return given.seen.pending_timeout or given.policy.pending_timeout


_EPOCH = datetime.fromtimestamp(0, UTC)
