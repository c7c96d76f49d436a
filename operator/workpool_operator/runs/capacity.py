"""Counts the taken slots from what exists, so that no counter can leak. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.store import RunRecord


@dataclass(frozen=True, slots=True)
class InFlight:
    """The ids of the runs in flight: the flow's container has started (`running`) or not
    (`pending`). A `suspended` run is pending and takes no slot: a queue decides when it starts."""

    running: frozenset[str]
    pending: frozenset[str]
    suspended: frozenset[str] = frozenset()

    @property
    def slots(self) -> int:
        """The number of slots that are taken."""
        return len(self.running) + len(self.pending - self.suspended)


def count_in_flight(
    records: Iterable[tuple[UUID, RunRecord]], jobs: Iterable[Job], pods: Iterable[Pod]
) -> InFlight:
    """Return the runs in flight: those that are offered or claimed, and those with a Job or pod
    that has not ended."""
    alive = [job for job in jobs if job.run_id and not job.ended]
    active = {job.run_id for job in alive}
    busy = {job.run_id for job in alive if not job.suspended}
    running: set[str] = set()
    for pod in pods:
        if pod.run_id and not pod.ended:
            active.add(pod.run_id)
            busy.add(pod.run_id)
            if pod.started:
                running.add(pod.run_id)
    for run_id, record in records:
        is_claimed = record.state_type == "PENDING" and record.claim is not None
        if record.offered_at is not None or is_claimed:
            busy |= {str(run_id)} - active
            active.add(str(run_id))
    pending = frozenset(active - running)
    return InFlight(running=frozenset(running), pending=pending, suspended=pending - busy)
