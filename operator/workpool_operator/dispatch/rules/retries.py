"""Rules for a run whose pod the infrastructure ended before any code of the flow ran. Pure.

Such an end says nothing about the run: it is put back to SCHEDULED, and its next claim makes a new
Job. Once the flow's container ran, Prefect's own retry settings decide.
"""

from __future__ import annotations

from workpool_operator.dispatch.rules import ClaimedInput
from workpool_operator.dispatch.snapshot import Snapshot
from workpool_operator.dispatch.steps import Crash, PutBack, Read, ReadHistory, Step
from workpool_operator.jobs import diagnosis, disruption
from workpool_operator.kube.models import Job

DELAYS = (10.0, 30.0, 90.0)  # seconds before the first, second and every further new Job


def retry(given: ClaimedInput, job: Job) -> Step | None:
    """Put a claimed run back whose pod the infrastructure alone ended, as often as it may be."""
    seen = given.seen
    if not (job.ended and job.failed and _unbegun(seen)):
        return None
    if not given.is_sure("ended"):
        return Read()
    made, limit = seen.record.infrastructure_retries, given.policy.infrastructure_retries
    if made is None:
        return ReadHistory()
    if made >= limit:
        return Crash(
            diagnosis.retries_exhausted(diagnosis.termination(job, seen.pods), limit=limit)
        )
    delay = DELAYS[min(made, len(DELAYS) - 1)]
    return PutBack(
        diagnosis.retry_after_disruption(seen.pods, number=made + 1, limit=limit, delay=delay),
        delay,
    )


def _unbegun(seen: Snapshot) -> bool:
    """Return whether no pod of the Job ran the flow's container, or still could on a node that is
    cut off, and the infrastructure ended the last one."""
    if seen.started or not seen.pods:
        return False
    if any(pod.spec.node_name for pod in seen.live_pods if pod.job_name == seen.current_name):
        return False
    return disruption.by_infrastructure(diagnosis.newest(seen.pods))
