"""Rules for a run whose Job a queue such as Kueue, or somebody by hand, suspends. Pure.

The operator neither suspends nor resumes a Job. A suspended Job waits without a time-out and keeps
its place in the queue. Once it is resumed, its run is claimed again and the claim adopts the Job,
so that two pods of a run never execute at once.
"""

from __future__ import annotations

from datetime import datetime

from workpool_operator.dispatch.ended import is_sure
from workpool_operator.dispatch.observed import Observed
from workpool_operator.dispatch.policy import Policy
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
from workpool_operator.jobs import verdict
from workpool_operator.kube.views import Job


def pending(seen: Observed, job: Job, policy: Policy) -> Step | None:
    """The claimed run's Job is suspended, or was when its sub-state was named."""
    assert seen.run is not None
    named = seen.run.state_name == verdict.SUSPENDED
    if not job.suspended:
        return Explain(verdict.resumed(job)) if named and not seen.started else None
    if named:
        return None
    if (rest := policy.podless_grace - seen.held("suspended")) > 0:
        return Later(rest)  # a queue with room resumes it at once
    if job.queue and seen.workload is None:
        return AskQueue(job.name)
    return Explain(verdict.suspended(job, seen.workload or ""))


def running(seen: Observed, job: Job, policy: Policy) -> Step | None:
    """The Job was suspended under a running flow whose process did not reschedule the run."""
    if not job.suspended or seen.pods_live:
        return None
    if (rest := policy.report_grace - seen.held("preempted")) > 0:
        return Later(rest)
    return PutBack(verdict.preempted(job)) if is_sure(seen, policy, "preempted") else Read()


def scheduled(seen: Observed, policy: Policy, wall: datetime) -> Step | None:
    """The run is to be run again, and a Job of it is suspended or was resumed."""
    kept = next((job for job in seen.leftovers if job.suspended and not job.deleting), None)
    if kept is not None:
        if seen.offered_at is not None:
            return Withdraw()
        return Nothing() if seen.told == kept.name else Tell(verdict.kept(kept), about=kept.name)
    if not any(_was_resumed(seen, job) for job in seen.leftovers):
        return None
    if seen.not_before and (rest := (seen.not_before - wall).total_seconds()) > 0:
        return Later(rest)
    return Claim() if seen.age <= policy.state_age else Read()


def claimed(seen: Observed) -> Step | None:
    """The run is claimed, and an earlier Job of it still has pods or may get some."""
    job = next((job for job in seen.leftovers if _may_execute(job)), None)
    if job is not None:
        return Adopt(job)
    return Later(5.0) if seen.overlapping else None


def _may_execute(job: Job) -> bool:
    """It has pods or makes new ones: nothing has decided its end yet."""
    return not (job.ended or job.deleting or job.condition("FailureTarget", "SuccessCriteriaMet"))


def _was_resumed(seen: Observed, job: Job) -> bool:
    """It was seen suspended since the run is SCHEDULED, or says itself that it was."""
    if not _may_execute(job):
        return False
    if job.name == seen.kept:
        return True
    rescheduled_at = seen.run.state.timestamp if seen.run and seen.run.state else None
    if rescheduled_at is None or not job.was_suspended:
        return False
    return job.start_time is None or job.start_time > rescheduled_at
