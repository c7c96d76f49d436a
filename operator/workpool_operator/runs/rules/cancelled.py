"""Rules for the runs of a binding that is being deleted and cancels them. Pure.

A run in flight becomes CANCELLING, as if a person had cancelled it, and the rules of that state end
it. A run that is not claimed stays SCHEDULED.
"""

from __future__ import annotations

from workpool_operator.kube.models import Job
from workpool_operator.runs.actions import Action, CancelRun, RefreshRun
from workpool_operator.runs.rules import ClaimedInput, Input


def scheduled(given: Input) -> Action | None:
    """Cancel a run that waits for its next attempt and whose Job is suspended or still runs."""
    jobs = given.snapshot.previous_jobs
    return _cancel(given) if any(not (job.ended or job.deleting) for job in jobs) else None


def claimed(given: ClaimedInput) -> Action | None:
    """Cancel a claimed run that has not started."""
    return _cancel(given)


def running(given: Input, _: Job) -> Action | None:
    """Cancel a run that has started."""
    return _cancel(given)


def _cancel(given: Input) -> Action | None:
    if not given.snapshot.cancels:
        return None
    return CancelRun() if given.is_recent else RefreshRun()
