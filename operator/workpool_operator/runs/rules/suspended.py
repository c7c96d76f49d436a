"""Rules for a run whose Job is suspended by a queue such as Kueue, or by a person. Pure.

The operator neither suspends nor resumes a Job. A suspended Job waits without a time-out and keeps
its place in the queue. Once it is resumed, its run is claimed again and the claim adopts the Job,
so that two pods of a run never overlap.
"""

from __future__ import annotations

from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job
from workpool_operator.runs.actions import (
    Action,
    AdoptJob,
    ClaimRun,
    DropOffer,
    LogToRun,
    NoAction,
    Postpone,
    ReadQueueEvents,
    RefreshRun,
    ReportWaiting,
    RequeueAfter,
)
from workpool_operator.runs.rules import ClaimedInput, Input


def pending(given: ClaimedInput, job: Job) -> Action | None:
    """Report what the suspended Job of a claimed run waits for, and when it is resumed."""
    snapshot, claim = given.snapshot, given.claim
    named = given.run.state_name == diagnosis.SUSPENDED
    if not job.suspended:
        return (
            ReportWaiting(diagnosis.resumed(job), claim) if named and not snapshot.started else None
        )
    if named:
        return None
    if (rest := given.remaining("suspended", given.timeouts.podless_grace)) > 0:
        return RequeueAfter(rest)  # a queue with free capacity resumes it at once
    if given.yields_to_claims:
        return RequeueAfter(given.timeouts.claims_recheck)
    if job.queue and snapshot.record.workload is None:
        return ReadQueueEvents(job.name)
    return ReportWaiting(diagnosis.suspended(job, snapshot.record.workload or ""), claim)


def running(given: Input, job: Job) -> Action | None:
    """Reschedule a run whose Job was suspended while the flow ran, if its own process did not."""
    if not job.suspended or given.snapshot.pods_live:
        return None
    if (rest := given.remaining("preempted", given.timeouts.report_grace)) > 0:
        return RequeueAfter(rest)
    return (
        Postpone(diagnosis.suspended_while_running(job))
        if given.is_sure("preempted")
        else RefreshRun()
    )


def kept(given: Input) -> Action | None:
    """Keep the suspended Job of a run that waits for its next attempt, with its place in the
    queue."""
    record = given.snapshot.record
    jobs = (job for job in given.snapshot.previous_jobs if job.suspended and not job.deleting)
    job = next(jobs, None)
    if job is None:
        return None
    if record.offered_at is not None:
        return DropOffer()
    return (
        NoAction()
        if record.noted == job.name
        else LogToRun(diagnosis.keeps_place_in_queue(job), about=job.name)
    )


def resumed(given: Input) -> Action | None:
    """Claim a run whose suspended Job was resumed, whether or not a poll offered it."""
    if not any(_was_resumed(given, job) for job in given.snapshot.previous_jobs):
        return None
    if (rest := given.deferred_seconds) > 0:
        return RequeueAfter(rest)
    return ClaimRun() if given.is_recent else RefreshRun()


def claimed(given: ClaimedInput) -> Action | None:
    """Adopt an earlier Job of a claimed run that has pods or may get some."""
    job = next((job for job in given.snapshot.previous_jobs if _may_execute(job)), None)
    if job is not None:
        return AdoptJob(job, given.claim)
    return RequeueAfter(5.0) if given.snapshot.overlapping else None


def _may_execute(job: Job) -> bool:
    """Return whether the Job has pods or can create some: its end is not decided yet."""
    return not (job.ended or job.deleting or job.condition("FailureTarget", "SuccessCriteriaMet"))


def _was_resumed(given: Input, job: Job) -> bool:
    """Return whether the Job was suspended since the run became SCHEDULED."""
    if not _may_execute(job):
        return False
    if job.name == given.snapshot.record.suspended_job:
        return True
    rescheduled_at = given.run.state.timestamp if given.run.state else None
    if rescheduled_at is None or not job.was_suspended:
        return False
    return job.start_time is None or job.start_time > given.in_cluster_time(rescheduled_at)
