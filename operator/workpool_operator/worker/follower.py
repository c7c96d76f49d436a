"""One run's Job as its worker waits for it, from the claim until its end is reported.

It sees every change of the caches at once, because what is gone is kept there only until the run's
end is reported, and its exit code would be lost with it (docs/races.md, 16). Plain data and one
event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from workpool_operator.dispatch.store import RunRecord
from workpool_operator.errors import OperatorError
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.kube.views import Job, Pod
from workpool_operator.worker.outcome import exit_code


@dataclass(eq=False)
class Follower:
    """`configuration` is None for a run whose Job an earlier worker made."""

    namespace: str
    run_id: UUID
    claim_id: UUID
    configuration: KubernetesJobConfiguration | None = None
    job: Job | None = None
    _present: bool = False
    _pods: dict[str, Pod] = field(default_factory=dict)
    _settled: bool = False
    _fault: OperatorError | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def identifier(self) -> str:
        """The run's `infrastructure_pid`; without a name where there never was a Job."""
        return f"{self.namespace}:{self.job.name if self.job else ''}"

    def saw(self, jobs: Iterable[Job], pods: Iterable[Pod]) -> None:
        """These are the run's Jobs that exist, and its pods, gone ones included."""
        mine = next((job for job in jobs if job.claim_id == str(self.claim_id)), None)
        self._present = mine is not None
        self.job = mine or self.job
        name = self.job.name if self.job else ""
        self._pods |= {pod.metadata.uid: pod for pod in pods if name and pod.job_name == name}
        self._news.set()

    def judge(self, record: RunRecord | None, live_pods: Iterable[Pod]) -> None:
        """Settle it if the run's end is reported and nothing of the Job runs any more; `record` is
        None once the run is forgotten."""
        name = self.job.name if self.job else ""
        if any(pod.job_name == name for pod in live_pods):
            return
        self._settled = self._is_reported() if self._present else not self._is_awaited(record)
        if self._settled:
            self._news.set()

    def fail(self, error: OperatorError) -> None:
        """Nothing of the run can be seen in the cluster."""
        self._fault = error
        self._news.set()

    async def created(self) -> Job | None:
        """The Job, as soon as it exists; None where the run came to its end without one."""
        while self.job is None and not self._settled:
            await self._next()
        return self.job

    async def ended(self) -> int:
        """The exit code, as soon as the end is reported and no pod runs."""
        while not self._settled:
            await self._next()
        return exit_code(self.job, self._pods.values())

    async def _next(self) -> None:
        await self._news.wait()
        self._news.clear()
        if self._fault:
            raise self._fault

    def _is_reported(self) -> bool:
        """A Job's TTL begins when its end is reported: that is how the reconciler marks it."""
        job = self.job
        return job is not None and job.ended and job.spec.ttl_seconds_after_finished is not None

    def _is_awaited(self, record: RunRecord | None) -> bool:
        """The run is still this claim's, so that its Job is to be made or to be missed."""
        return record is not None and record.claim is not None and record.claim.id == self.claim_id
