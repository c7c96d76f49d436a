"""Rules for a run whose Job a queue such as Kueue, or somebody by hand, suspends. Pure.

The operator neither suspends nor resumes a Job. A suspended Job waits without a time-out and keeps
its place in the queue. Once it is resumed, its run is claimed again and the claim adopts the Job,
so that two pods of a run never execute at once.
"""

from __future__ import annotations

from workpool_operator.dispatch.rules import ClaimedInput, Input
from workpool_operator.dispatch.steps import (
    Adopt,
    AskQueue,
    Claim,
    Explain,
    Later,
    Nothing,
    PutBack,
    Read,
    Step,
    Tell,
    Withdraw,
)
from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job


def pending(given: ClaimedInput, job: Job) -> Step | None:
    """Report what the suspended Job of a claimed run waits for, and that the wait is over."""
    seen, claim = given.seen, given.claim
    named = given.run.state_name == diagnosis.SUSPENDED
    if not job.suspended:
        return Explain(diagnosis.resumed(job), claim) if named and not seen.started else None
    if named:
        return None
    if (rest := given.rest("suspended", given.policy.podless_grace)) > 0:
        return Later(rest)  # a queue with room resumes it at once
    if job.queue and seen.record.workload is None:
        return AskQueue(job.name)
    return Explain(diagnosis.suspended(job, seen.record.workload or ""), claim)


def running(given: Input, job: Job) -> Step | None:
    """Put back a run whose Job was suspended under a running flow, if its process did not
    reschedule it."""
    if not job.suspended or given.seen.pods_live:
        return None
    if (rest := given.rest("preempted", given.policy.report_grace)) > 0:
        return Later(rest)
    return PutBack(diagnosis.suspended_while_running(job)) if given.is_sure("preempted") else Read()


def kept(given: Input) -> Step | None:
    """Keep a suspended Job of a run that waits for its next attempt: it has a place in the
    queue."""
    record = given.seen.record
    jobs = (job for job in given.seen.previous_jobs if job.suspended and not job.deleting)
    job = next(jobs, None)
    if job is None:
        return None
    if record.offered_at is not None:
        return Withdraw()
    return (
        Nothing()
        if record.noted == job.name
        else Tell(diagnosis.keeps_place_in_queue(job), about=job.name)
    )


def resumed(given: Input) -> Step | None:
    """Claim a run whose suspended Job was resumed, whether or not a poll offered it."""
    if not any(_was_resumed(given, job) for job in given.seen.previous_jobs):
        return None
    not_before = given.seen.record.not_before
    if not_before and (rest := (not_before - given.wall).total_seconds()) > 0:
        return Later(rest)
    return Claim() if given.is_recent else Read()


def claimed(given: ClaimedInput) -> Step | None:
    """Adopt an earlier Job of a claimed run that has pods or may get some."""
    job = next((job for job in given.seen.previous_jobs if _may_execute(job)), None)
    if job is not None:
        return Adopt(job, given.claim)
    return Later(5.0) if given.seen.overlapping else None


def _may_execute(job: Job) -> bool:
    """Return whether the Job has pods or makes new ones: nothing has decided its end yet."""
    return not (job.ended or job.deleting or job.condition("FailureTarget", "SuccessCriteriaMet"))


def _was_resumed(given: Input, job: Job) -> bool:
    """Return whether the Job was suspended since the run became SCHEDULED."""
    if not _may_execute(job):
        return False
    if job.name == given.seen.record.suspended_job:
        return True
    rescheduled_at = given.run.state.timestamp if given.run.state else None
    if rescheduled_at is None or not job.was_suspended:
        return False
    return job.start_time is None or job.start_time > rescheduled_at
