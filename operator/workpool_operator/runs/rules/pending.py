"""Rules for a claimed run until the flow container starts: create the Job, record it, report what
it waits for, or end the run; also for replacement pods. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from workpool_operator.jobs import diagnosis
from workpool_operator.jobs.diagnosis import Termination, WaitReason
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.actions import (
    Action,
    CreateJob,
    NoAction,
    Postpone,
    PostWaitEvent,
    ReadEvents,
    RecordInfrastructurePid,
    RefreshRun,
    RefreshStateHistory,
    RenewLease,
    ReportCancelled,
    ReportCrashed,
    ReportWaiting,
    RequeueAfter,
    RetryPods,
)
from workpool_operator.runs.rules import (
    ClaimedInput,
    ClaimedJobRule,
    ClaimedRule,
    Input,
    Rule,
    cancelled,
    ended,
    first,
    suspended,
)
from workpool_operator.runs.settings import QUOTA_PROBE_SECONDS
from workpool_operator.runs.snapshot import Snapshot
from workpool_operator.runs.store import JobFaultReason

# Sub-states from before the Job exists: under them a missing Job is created.
BEFORE_JOB = frozenset({"Pending", "Submitting", "QuotaExceeded", "JobRefused", diagnosis.OUTAGE})


def identify(given: Input) -> Action:
    """Read the history of a run without a known claim of ours; leave the run alone if the history
    shows none."""
    return NoAction() if given.snapshot.record.is_foreign else RefreshStateHistory()


def replacement_pod(given: Input, job: Job) -> Action | None:
    """Report what a replacement pod of a RUNNING run waits for, and crash the run in time: it may
    wait as the first pod did."""
    newest = given.snapshot.newest
    if newest is None or newest.deleting or _is_under_way(given.snapshot) or job.suspended:
        return None
    wait = diagnosis.wait_reason(newest, given.wall) or given.snapshot.event_reason
    if wait is None or given.snapshot.record.reported == (newest.metadata.name, wait.category):
        return _waiting(given, job, wait, None)
    return _waiting(given, job, wait, PostWaitEvent(wait, job, newest))


# A claimed run, with or without a Job


def lease_due(given: ClaimedInput) -> Action | None:
    """Renew the lease of the deployment's concurrency slot that came with the claim."""
    lease_id = given.claim.lease_id
    if lease_id is None or _lease_rest(given) > 0:
        return None
    return RenewLease(lease_id) if given.is_recent else RefreshRun()


def without_job(given: ClaimedInput) -> Action | None:
    """Apply the rules for a claim whose Job does not exist."""
    return first(WITHOUT_JOB, given) if given.snapshot.current is None else None


def with_job(given: ClaimedInput) -> Action | None:
    """Apply the rules for a claim whose Job exists."""
    return first(WITH_JOB, given, given.snapshot.current) if given.snapshot.current else None


# Without a Job


def job_vanished(given: ClaimedInput) -> Action | None:
    """Treat the Job as vanished if it was recorded, or if the sub-state is one that only a Job
    brings about."""
    recorded = given.snapshot.recorded_name == given.snapshot.current_name
    return ended.vanished(given) if recorded or given.run.state_name not in BEFORE_JOB else None


def job_impossible(given: ClaimedInput) -> Action | None:
    """End a run whose Job cannot be created, with the cause and the fix."""
    fault = given.snapshot.record.job_fault
    if fault is None or fault.claim_id != given.claim.id:
        return None
    if not given.is_recent:
        return RefreshRun()
    match fault.reason:
        case JobFaultReason.DEPLOYMENT_NOT_FOUND:
            return ReportCancelled(f"{fault.message}: the run was cancelled.")
        case JobFaultReason.RENDERING_FAILED:
            text = f"The run's Job cannot be created. {fault.message}"
            return ReportCrashed(Termination(text, fault.reason.value))
        case JobFaultReason.REFUSED:
            return ReportCrashed(Termination(fault.message, fault.reason.value))


def refused_too_long(given: ClaimedInput) -> Action | None:
    """Crash a run whose Job the API server has refused for longer than the pending time-out. An
    outage counts only if it affects this run's Job alone."""
    refusal = given.snapshot.record.refusal
    if refusal is None:
        return None
    if refusal.category == diagnosis.OUTAGE:
        waited = given.snapshot.only_this_refused_seconds
    else:
        waited = min(_pending_for(given), _refused_for(given, refusal))
    return _crash_waiting(given, refusal) if waited >= _timeout(given) else None


def quota_probed(given: ClaimedInput) -> Action | None:
    """Make a run SCHEDULED again that a quota refuses while another run waits until it has room."""
    refusal = given.snapshot.record.refusal
    if refusal is None or not refusal.quota or not given.snapshot.quota_probed:
        return None
    return Postpone(refusal, 0.0) if given.is_recent else RefreshRun()


def refusal_unnamed(given: ClaimedInput) -> Action | None:
    """Report why the API server refuses the Job, unless the sub-state names it already."""
    refusal = given.snapshot.record.refusal
    if refusal is None or refusal.category == given.run.state_name:
        return None
    return ReportWaiting(refusal, given.claim)


def refused_just_now(given: ClaimedInput) -> Action | None:
    """Wait until a refused Job is due to be tried again."""
    record = given.snapshot.record
    rest = record.refused_until - given.snapshot.now
    return RequeueAfter(rest) if record.refusal and rest > 0 else None


def asked_to_wait(given: ClaimedInput) -> Action | None:
    """Wait as long as the API server asked, in its answer for any run."""
    rest = given.snapshot.creation_paused
    return RequeueAfter(rest) if rest > 0 else None


def create(given: ClaimedInput) -> Action:
    """Create the Job."""
    return CreateJob(given.claimed)


WITHOUT_JOB: tuple[ClaimedRule, ...] = (
    job_vanished,  # there was a Job
    suspended.claimed,  # an earlier Job continues: adopt it, two pods must not overlap
    job_impossible,  # Cancelled for a deleted deployment, else Crashed
    refused_too_long,  # Crashed
    quota_probed,  # SCHEDULED
    refusal_unnamed,
    refused_just_now,
    asked_to_wait,
    create,
)


# With a Job


def unrecorded(given: Input, job: Job) -> Action | None:
    """Record the Job's name in Prefect."""
    return RecordInfrastructurePid(job.name) if given.snapshot.recorded_name != job.name else None


def under_way(given: ClaimedInput, job: Job) -> Action | None:
    """Wait for events once the newest pod has started the flow container or is over, or while the
    Job is suspended."""
    if not (_is_under_way(given.snapshot) or job.suspended):
        return None
    return RequeueAfter(_lease_rest(given)) if given.claim.lease_id else NoAction()


def not_started(given: ClaimedInput, job: Job) -> Action:
    """Report what the newest pod waits for before the flow container starts, and crash the run in
    time."""
    newest = given.snapshot.newest
    wait = diagnosis.wait_reason(newest, given.wall) or given.snapshot.event_reason
    if wait is None or wait.category == given.run.state_name:
        return _waiting(given, job, wait, None)
    if given.yields_to_claims:
        return _waiting(given, job, wait, None, within=given.timeouts.claims_recheck)
    return _waiting(given, job, wait, ReportWaiting(wait, given.claim))


WITH_JOB: tuple[ClaimedJobRule, ...] = (
    unrecorded,  # write infrastructure_pid
    ended.retry,  # the infrastructure ended it before the flow ran: back to SCHEDULED
    ended.job_ended,  # Crashed: reason, exit code, remedy, last log lines
    ended.pod_overdue,  # Crashed, though the pod stays
    suspended.pending,  # report what it waits for, however long
    ended.flow_ended,  # only sidecars are running: Crashed
    under_way,
    not_started,
)

CLAIMED: tuple[ClaimedRule, ...] = (cancelled.claimed, lease_due, without_job, with_job)


def unclaimed(given: Input) -> Action | None:
    """Look for our claim on a run that has none we know of."""
    return identify(given) if given.snapshot.record.claim is None else None


def claimed(given: Input) -> Action | None:
    """Apply the rules for a run that we claimed."""
    if (claim := given.snapshot.record.claim) is None:
        return None
    return first(
        CLAIMED,
        ClaimedInput(
            given.run, given.snapshot, given.timeouts, given.wall, given.prefect_ahead, claim
        ),
    )


PENDING: tuple[Rule, ...] = (unclaimed, claimed)


def _is_under_way(snapshot: Snapshot) -> bool:
    return snapshot.newest is not None and (snapshot.newest.started or snapshot.newest.ended)


def _waiting(
    given: Input,
    job: Job,
    wait: WaitReason | None,
    report: Action | None,
    *,
    within: float = math.inf,
) -> Action:
    """Return the action for a Job whose newest pod has not started the flow container.

    `report` reports the wait; None if that is done, or is to be decided again `within` seconds.
    Prefect refuses a sub-state on a RUNNING run, and one of the same name on any run.
    """
    newest = given.snapshot.newest
    initializing = newest is not None and diagnosis.is_initializing(newest)
    elapsed = _waited_seconds(given)
    if (elapsed >= _timeout(given) and not initializing) or (wait and wait.is_permanent):
        return _crash_waiting(given, wait)
    read = None if initializing else _read_events(given, job)
    retry = None if initializing else _retry_pods(given, job)
    return report or read or retry or RequeueAfter(min(within, _requeue(given, elapsed)))


def _read_events(given: Input, job: Job) -> Action | None:
    """Read Events if they may explain what the objects' own status does not: no pod at all, or no
    volume for it."""
    snapshot, timeouts = given.snapshot, given.timeouts
    if snapshot.now - snapshot.record.events_read_at < timeouts.diagnosis_age:
        return None
    if snapshot.seconds_since("podless") >= timeouts.podless_grace:
        return ReadEvents("Job", job.name)
    if snapshot.newest and snapshot.seconds_since("creating") >= timeouts.creating_grace:
        return ReadEvents("Pod", snapshot.newest.metadata.name)
    return None


def _retry_pods(given: Input, job: Job) -> Action | None:
    """Have the pod created again that a quota refused, if no other run finds out for this one when
    the quota has room."""
    waited = given.snapshot.now - given.snapshot.record.pods_retried_at
    return RetryPods(job) if _probes_quota(given) and waited >= QUOTA_PROBE_SECONDS else None


def _probes_quota(given: Input) -> bool:
    wait = given.snapshot.event_reason
    return wait is not None and bool(wait.quota) and not given.snapshot.quota_probed


def _requeue(given: Input, elapsed: float) -> float:
    soon = given.timeouts.diagnosis_age if given.snapshot.pods else given.timeouts.podless_grace
    if _probes_quota(given):
        soon = QUOTA_PROBE_SECONDS
    return max(0.2, min(soon, _timeout(given) - elapsed))


def _crash_waiting(given: Input, wait: WaitReason | None) -> Action:
    if not given.is_sure("known"):
        return RefreshRun()
    if wait and wait.is_permanent:
        text = f"The run can never start. {wait.category}: {wait.message}"
        return ReportCrashed(Termination(text, wait.category))
    return ReportCrashed(
        diagnosis.never_started(wait, given.snapshot.newest, seconds=_timeout(given))
    )


def _lease_rest(given: ClaimedInput) -> float:
    """Return the seconds until the deployment's concurrency lease is due for renewal."""
    return given.timeouts.lease_renewal - (
        given.snapshot.now - given.snapshot.record.lease_renewed_at
    )


def _waited_seconds(given: Input) -> float:
    """Return for how many seconds the newest pod has kept the run waiting, without the time that
    its init containers worked."""
    pod, elapsed = given.snapshot.newest, _pending_for(given)
    if pod is None:
        return elapsed
    if since := _replaced_at(given, pod):
        elapsed = (given.wall - since).total_seconds()
    return elapsed - diagnosis.initializing_seconds(pod, given.wall)


def _replaced_at(given: Input, pod: Pod) -> datetime | None:
    """Return when the Job created the pod as a replacement; None for its first. Any pod of a
    RUNNING run that has not started is one, unless the cache has yet to see it start."""
    created = pod.metadata.creation_timestamp or _EPOCH
    if given.run.state_type == "PENDING":
        return created if len(given.snapshot.pods) > 1 else None
    running = given.run.state.timestamp if given.run.state else None
    return max(created, given.in_cluster_time(running)) if running else created


def _pending_for(given: Input) -> float:
    """Return the seconds since the latest of: the claim, the Job's creation, the Job's start.

    Resuming a Job sets its start again. While a Job has no start, at most the time counts for
    which this process has seen it not suspended.
    """
    job, claim = given.snapshot.current, given.snapshot.record.claim
    claimed_at = claim.timestamp if claim else None
    stamps = [given.in_cluster_time(claimed_at) if claimed_at else None]
    stamps += [job.metadata.creation_timestamp, job.start_time] if job else []
    elapsed = min([(given.wall - stamp).total_seconds() for stamp in stamps if stamp], default=0.0)
    if job is None or job.start_time:
        return elapsed
    return min(elapsed, given.snapshot.seconds_since("unsuspended"))


def _refused_for(given: Input, refusal: WaitReason) -> float:
    """Return the seconds since the Job was first refused, as far as this process or the sub-state
    knows."""
    state = given.run.state
    named = refusal.category == given.run.state_name and state and state.timestamp
    seconds = (given.wall - given.in_cluster_time(named)).total_seconds() if named else 0.0
    return max(given.snapshot.seconds_since("refused"), seconds)


def _timeout(given: Input) -> float:
    """Return for how many seconds the run may wait: its own limit, else the binding's, if any."""
    return given.snapshot.pending_timeout or given.timeouts.pending_timeout or math.inf


_EPOCH = datetime.fromtimestamp(0, UTC)
