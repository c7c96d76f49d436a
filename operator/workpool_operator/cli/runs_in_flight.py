"""Says of each run in flight how far it is and what it waits for, by its Job and its pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from workpool_operator.jobs import diagnosis
from workpool_operator.jobs.diagnosis import WaitReason
from workpool_operator.jobs.disruption import explain_disruption
from workpool_operator.kube.models import Event, Job, Pod
from workpool_operator.runs.capacity import Stage, stage_of

NO_JOB = "NoJob"
PENDING = "Pending"
_PHASES = {
    Stage.CLAIMED: PENDING,
    Stage.STARTING: "Starting",
    Stage.SUSPENDED: "Suspended",
    Stage.RUNNING: "Running",
}
_ENDING = "Ending"


@dataclass(frozen=True, slots=True)
class RunInFlight:
    """A run in flight; `since` is when its Job was created, or when it entered its state.

    `phase`: Pending (no pod), Starting (its flow container has not started), Running, Ending (its
    Job or pod is being deleted), Suspended, or NoJob. `reason` is one CamelCase word, "" if none is
    known, and `message` explains it.
    """

    run_id: str
    name: str
    binding: str
    namespace: str
    phase: str
    since: datetime | None = None
    job: str = ""
    job_uid: str = ""
    pod: str = ""
    node: str = ""
    reason: str = ""
    message: str = ""

    @property
    def is_unexplained(self) -> bool:
        """Whether it waits, and neither its Job nor its pods say why: their Events can."""
        return self.phase in (PENDING, _PHASES[Stage.STARTING]) and not self.reason

    def explained_by(self, events: Iterable[Event]) -> RunInFlight:
        """Return the run with the reason of the newest warning among the Events."""
        what = f"Pod {self.pod}" if self.pod else f"Job {self.job}"
        wait = diagnosis.no_pods_reason(events, what=what)
        return replace(self, reason=wait.category, message=wait.message) if wait else self


def runs_in_flight(
    jobs: Iterable[Job], pods: Iterable[Pod], *, names: Mapping[str, str], now: datetime
) -> list[RunInFlight]:
    """Return the runs whose Job or pods have not ended, the oldest first.

    `names` are the names of runs by the UID of their Job: a Job has it in a label.
    """
    of_run: dict[str, list[Pod]] = {}
    for pod in pods:
        of_run.setdefault(pod.run_id, []).append(pod)
    grouped: dict[str, list[Job]] = {}
    for job in jobs:
        grouped.setdefault(job.run_id, []).append(job)
    found = [
        run
        for run_id, its_jobs in grouped.items()
        if run_id and (run := _run(its_jobs, of_run.get(run_id, []), names, now))
    ]
    return sorted(found, key=lambda run: (run.since is None, run.since, run.run_id))


def _run(
    jobs: Sequence[Job], pods: Sequence[Pod], names: Mapping[str, str], now: datetime
) -> RunInFlight | None:
    stage = stage_of(None, jobs, pods)
    if stage is None:
        return None
    job = max(jobs, key=lambda job: (not job.ended, str(job.metadata.creation_timestamp)))
    pod = diagnosis.newest(pods) if pods else None
    wait = _wait(stage, job, pod, now)
    ending = job.deleting or (pod is not None and pod.deleting)
    return RunInFlight(
        run_id=job.run_id,
        name=names.get(job.metadata.uid, ""),
        binding=job.binding,
        namespace=job.metadata.namespace,
        phase=_ENDING if ending else _PHASES[stage],
        since=job.metadata.creation_timestamp,
        job=job.name,
        job_uid=job.metadata.uid,
        pod=pod.metadata.name if pod else "",
        node=pod.spec.node_name if pod else "",
        reason=wait.category if wait else "",
        message=wait.message if wait else "",
    )


def _wait(stage: Stage, job: Job, pod: Pod | None, now: datetime) -> WaitReason | None:
    if pod and pod.deleting and (text := explain_disruption(pod)):
        return WaitReason("Disrupted", text)
    if stage is Stage.SUSPENDED:
        return diagnosis.suspended(job)
    return diagnosis.wait_reason(pod, now) if stage is Stage.STARTING else None
