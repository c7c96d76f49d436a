"""Rules for a run whose pod the infrastructure ended before any code of the flow ran. Pure.

Such an end is no fault of the run: the run becomes SCHEDULED again, and its next claim creates a
new Job. Once the flow container ran, Prefect's own retry settings decide.
"""

from __future__ import annotations

from workpool_operator.jobs import diagnosis, disruption
from workpool_operator.kube.models import Job
from workpool_operator.runs.actions import (
    Action,
    Postpone,
    RefreshRun,
    RefreshStateHistory,
    ReportCrashed,
)
from workpool_operator.runs.rules import ClaimedInput
from workpool_operator.runs.snapshot import Snapshot

DELAYS = (10.0, 30.0, 90.0)  # seconds before the first, second and every further new Job


def retry(given: ClaimedInput, job: Job) -> Action | None:
    """Reschedule a claimed run whose pod was ended by the infrastructure alone, a limited number of
    times."""
    snapshot = given.snapshot
    if not (job.ended and job.failed and _flow_never_started(snapshot)):
        return None
    if not given.is_sure("ended"):
        return RefreshRun()
    made, limit = snapshot.record.infrastructure_retries, given.timeouts.infrastructure_retries
    if made is None:
        return RefreshStateHistory()
    if made >= limit:
        return ReportCrashed(
            diagnosis.retries_exhausted(diagnosis.termination(job, snapshot.pods), limit=limit)
        )
    delay = DELAYS[min(made, len(DELAYS) - 1)]
    return Postpone(
        diagnosis.retry_after_disruption(snapshot.pods, number=made + 1, limit=limit, delay=delay),
        delay,
    )


def _flow_never_started(snapshot: Snapshot) -> bool:
    """Return whether no pod of the Job ran the flow container, or still could on a node that is
    cut off, and the infrastructure ended the last one."""
    if snapshot.started or not snapshot.pods:
        return False
    if any(
        pod.spec.node_name for pod in snapshot.live_pods if pod.job_name == snapshot.current_name
    ):
        return False
    return disruption.by_infrastructure(diagnosis.newest(snapshot.pods))
