"""Lets a caller wait for a run's Job and for its exit code.

A handle gets every change at once: the cluster cache keeps deleted objects only until the run's end
is reported, and the exit code would be lost with them (docs/races.md, 16). No I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

from workpool_operator.errors import OperatorError
from workpool_operator.kube.models import ContainerStatus, Job, Pod, RunObjects, Terminated
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.store import RunRecord

NEVER_STARTED = 125  # "container failed to run", in Prefect's own table of exit codes
STOPPED = 143  # SIGTERM: how Kubernetes stops a pod whose last status is unknown
_EPOCH = datetime.fromtimestamp(0, UTC)

Changed = Callable[["RunHandle"], None]


class RunHandle:
    """One claimed run, from its claim until its end is reported and no pod of its Job runs.

    The controller reconciles the run once `following` names the namespace of its Job. `located` is
    called then, and `closed` when the caller stops waiting.
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
        """Follow the run's Job, which is in the namespace or is to be created there."""
        self.namespace = namespace
        self._located(self)
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Stop waiting: the controller continues without this handle."""
        self._closed(self)

    # For the caller

    async def job(self) -> Job | None:
        """Return the Job as soon as it exists; None if the run ended without one.

        Raises:
            OperatorError: the run's Job and pods cannot be listed.
        """
        while self._job is None and not self._settled:
            await self._next()
        return self._job

    async def exit_code(self) -> int:
        """Return the exit code as soon as the end is reported and no pod runs.

        Raises:
            OperatorError: the run's Job and pods cannot be listed.
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
        """Store the run's objects as they are now."""
        claim = str(self.claimed.claim.id)
        mine = next((job for job in objects.jobs if job.claim_id == claim), None)
        self._exists = mine is not None
        self._job = mine or self._job
        name = self._job.name if self._job else ""
        pods = (*objects.deleted_pods, *objects.pods)
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
        """Raise the error in the caller: the run's Job and pods cannot be listed."""
        self._fault = error
        self._changed.set()

    def _is_reported(self) -> bool:
        """Return whether the Job's end is reported: then the executor has set its TTL."""
        job = self._job
        return job is not None and job.ended and job.spec.ttl_seconds_after_finished is not None

    def _is_awaited(self, record: RunRecord | None) -> bool:
        """Return whether the run is still under this claim: its Job is yet to come, or missing."""
        claim = record.claim if record else None
        return claim is not None and claim.id == self.claimed.claim.id


def exit_code(job: Job | None, pods: Iterable[Pod]) -> int:
    """Return the exit code of the flow container in the newest pod that has one; else a code for
    how the Job ended. A Complete Job is 0: a later pod succeeded after an earlier one failed."""
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
    """Return how it last ended. A 137 without a start is invented for a deleted pod."""
    end = flow.state.terminated or flow.last_state.terminated
    return end if end and end.started_at else None


def _created_at(pod: Pod) -> datetime:
    return pod.metadata.creation_timestamp or _EPOCH
