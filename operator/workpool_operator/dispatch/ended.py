"""Rules for a run whose Job is over, or gone, while the run itself is not. Pure.

Nothing is ended on a state that was read before the fact that asks for it.
"""

from __future__ import annotations

from workpool_operator.dispatch.observed import Observed
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.steps import ConfirmGone, Crash, Later, Read, Step
from workpool_operator.jobs import verdict
from workpool_operator.kube.views import Job


def is_sure(seen: Observed, policy: Policy, fact: str) -> bool:
    """The run's state was asked for after the fact was seen, and heard a moment ago."""
    return seen.fresh(fact) and seen.age <= policy.state_age


def ended(seen: Observed, job: Job, policy: Policy) -> Step:
    """The Job failed, or completed and the run's report has had time to arrive."""
    rest = _grace(seen, job, policy) - seen.held("ended")
    if rest > 0 and seen.fresh("ended"):
        return Later(rest)
    if not is_sure(seen, policy, "ended"):
        return Read()
    return Crash(verdict.ended(job, seen.pods))


def unreported(jobs: tuple[Job, ...]) -> Job | None:
    """A Job that ended and whose TTL has not begun: that is how we mark a reported end."""
    waiting = (job for job in jobs if job.ended and job.spec.ttl_seconds_after_finished is None)
    return next((job for job in waiting if not job.deleting), None)


def _grace(seen: Observed, job: Job, policy: Policy) -> float:
    """For the run's report, or for the status of the pod that made the Job fail."""
    if not job.failed:
        return policy.report_grace
    told = job.exceeded_deadline or any(pod.ended for pod in seen.pods)
    return 0.0 if told else policy.status_grace


def gone(seen: Observed, policy: Policy) -> Step:
    """There was a Job, and there is none (caches may lag: a live GET has the last word)."""
    if (rest := policy.vanish_grace - seen.held("gone")) > 0:
        return Later(rest)
    if not seen.confirmed_gone:
        return ConfirmGone(seen.current_name)
    if not is_sure(seen, policy, "gone"):
        return Read()
    return Crash(verdict.vanished(seen.current_name, seen.pods))
