"""Rules for a run that has not ended although its Job has ended or vanished. Pure.

No run is ended on a state that was read before the fact that requires it.
"""

from __future__ import annotations

from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job
from workpool_operator.runs.actions import (
    Action,
    ConfirmJobDeleted,
    RefreshRun,
    ReportCrashed,
    RequeueAfter,
)
from workpool_operator.runs.rules import Input


def ended(given: Input, job: Job) -> Action | None:
    """Crash a run whose Job failed, or completed some time ago without a report of the run."""
    if not job.ended:
        return None
    rest = given.remaining("ended", _grace(given, job))
    if rest > 0 and given.snapshot.read_since("ended"):
        return RequeueAfter(rest)
    return (
        ReportCrashed(diagnosis.termination(job, given.snapshot.pods))
        if given.is_sure("ended")
        else RefreshRun()
    )


def unreported(jobs: tuple[Job, ...]) -> Job | None:
    """Return a Job that ended and has no TTL yet: the TTL marks a reported end."""
    waiting = (job for job in jobs if job.ended and job.spec.ttl_seconds_after_finished is None)
    return next((job for job in waiting if not job.deleting), None)


def _grace(given: Input, job: Job) -> float:
    """Return how many seconds to wait for the run's report, or for the status of the pod that
    failed the Job."""
    if not job.failed:
        return given.timeouts.report_grace
    is_explained = job.exceeded_deadline or any(pod.ended for pod in given.snapshot.pods)
    return 0.0 if is_explained else given.timeouts.status_grace


def gone(given: Input) -> Action:
    """Crash a run whose Job vanished. Caches can lag, so that a GET confirms it."""
    snapshot = given.snapshot
    if (rest := given.remaining("gone", given.timeouts.vanish_grace)) > 0:
        return RequeueAfter(rest)
    if not snapshot.confirmed_deleted:
        return ConfirmJobDeleted(snapshot.current_name)
    if not given.is_sure("gone"):
        return RefreshRun()
    return ReportCrashed(diagnosis.job_vanished(snapshot.current_name, snapshot.pods))
