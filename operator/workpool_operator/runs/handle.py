"""What the process that creates a run's Job waits for: the Job, then its exit code.

A handle gets every change at once: the cluster cache keeps gone objects only until the run's end
is reported, and the exit code would be lost with them (docs/races.md, 16). No I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

from workpool_operator.errors import OperatorError
from workpool_operator.kube.cache import RunObjects
from workpool_operator.kube.models import ContainerStatus, Job, Pod, Terminated
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.store import RunRecord

NEVER_STARTED = 125  # "container failed to run", in Prefect's own table of exit codes
STOPPED = 143  # SIGTERM: how Kubernetes ends a pod whose status nobody saw
_EPOCH = datetime.fromtimestamp(0, UTC)

Changed = Callable[["RunHandle"], None]


class RunHandle:
    """One claimed run, from its claim until its end is reported and no pod of its Job runs.

    The run is not driven until `following` says where its Job is; `closed` is called at the end.
    """

    def __init__(self, claimed: ClaimedRun, *, located: Changed, closed: Changed) -> None:
        self.claimed = claimed
        self.namespace = ""
        self._located, self._closed = located, closed
        self._job: Job | None = None
        self._exists = False
        self._pods: dict[str, Pod] = {}
        self._settled = False
        self._fault: OperatorError | None = None
        self._changed = asyncio.Event()

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        return self.claimed.run.id

    @property
    def identifier(self) -> str:
        """The run's `infrastructure_pid`; without a name if there never was a Job."""
        return f"{self.namespace}:{self._job.name if self._job else ''}"

    @contextmanager
    def following(self, namespace: str) -> Iterator[None]:
        """Have the run driven, whose Job is in the namespace or is to be created there."""
        self.namespace = namespace
        self._located(self)
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Wait no longer: the run is driven on without this handle."""
        self._closed(self)

    # For who waits

    async def job(self) -> Job | None:
        """Return the Job as soon as it exists; None if the run came to its end without one.

        Raises:
            OperatorError: nothing of the run can be seen in the cluster.
        """
        while self._job is None and not self._settled:
            await self._next()
        return self._job

    async def exit_code(self) -> int:
        """Return the exit code as soon as the end is reported and no pod runs.

        Raises:
            OperatorError: nothing of the run can be seen in the cluster.
        """
        while not self._settled:
            await self._next()
        return exit_code(self._job, self._pods.values())

    async def _next(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        if self._fault:
            raise self._fault

    # For the controller

    def update(self, objects: RunObjects) -> None:
        """Take the run's objects as they are now."""
        claim = str(self.claimed.claim.id)
        mine = next((job for job in objects.jobs if job.claim_id == claim), None)
        self._exists = mine is not None
        self._job = mine or self._job
        name = self._job.name if self._job else ""
        pods = (*objects.gone_pods, *objects.pods)
        self._pods |= {pod.metadata.uid: pod for pod in pods if name and pod.job_name == name}
        self._changed.set()

    def settle_if_done(self, record: RunRecord | None, pods: Iterable[Pod]) -> None:
        """Settle if the run's end is reported and nothing of the Job runs any more; `record` is
        None once the run is forgotten, `pods` are those that exist."""
        name = self._job.name if self._job else ""
        if any(pod.job_name == name and not pod.ended for pod in pods):
            return
        self._settled = self._is_reported() if self._exists else not self._is_awaited(record)
        if self._settled:
            self._changed.set()

    def fail(self, error: OperatorError) -> None:
        """Raise the error to who waits: nothing of the run can be seen in the cluster."""
        self._fault = error
        self._changed.set()

    def _is_reported(self) -> bool:
        """A Job's TTL begins when its end is reported: that is how the reconciler marks it."""
        job = self._job
        return job is not None and job.ended and job.spec.ttl_seconds_after_finished is not None

    def _is_awaited(self, record: RunRecord | None) -> bool:
        """The run is still this claim's, so that its Job is to be created or to be missed."""
        claim = record.claim if record else None
        return claim is not None and claim.id == self.claimed.claim.id


def exit_code(job: Job | None, pods: Iterable[Pod]) -> int:
    """Return the flow container's exit code, of the newest pod that has one; else what stands for
    how the Job ended. A Job that is Complete is 0: a later pod made good an earlier one's failure.
    """
    if job and job.condition("Complete"):
        return 0
    flows = [
        flow for pod in sorted(pods, key=_created_at, reverse=True) if (flow := pod.flow_status)
    ]
    codes = (end.exit_code for flow in flows if (end := _end(flow)))
    if (code := next(codes, None)) is not None:
        return code
    return STOPPED if any(flow.state.running for flow in flows) else NEVER_STARTED


def _end(flow: ContainerStatus) -> Terminated | None:
    """Return how it ended last. One that never started has a made-up 137 once its pod is gone."""
    end = flow.state.terminated or flow.last_state.terminated
    return end if end and end.started_at else None


def _created_at(pod: Pod) -> datetime:
    return pod.metadata.creation_timestamp or _EPOCH
