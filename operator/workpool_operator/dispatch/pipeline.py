"""The dispatch path of one served pool, drawn once.

    events --wake--> acquire --offer--> +-------+
    reflectors (the session's) --add--> | work  | --> reconcilers: observe -> decide -> act
    resync ---------------------add---> | queue |
    timers -------------------add_after-+-------+

Lives as long as one connection: another server, other credentials or another pool are another
pipeline, which adopts from both stores what this one left.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from workpool_operator.binding.model import Spec
from workpool_operator.dispatch import capacity
from workpool_operator.dispatch.acquire import Acquire
from workpool_operator.dispatch.actions import Actions, Place
from workpool_operator.dispatch.capacity import Load
from workpool_operator.dispatch.decide import Policy
from workpool_operator.dispatch.ledger import Ledger
from workpool_operator.dispatch.reconciler import Reconciler
from workpool_operator.dispatch.resync import Resync
from workpool_operator.dispatch.workqueue import WorkQueue
from workpool_operator.errors import OperatorError, PrefectUnavailable
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.views import Job, Pod
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.events import EventStream
from workpool_operator.prefect_api.runlog import RunLog
from workpool_operator.prefect_api.views import WorkPool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outside:
    """What the pipeline sees of its session: live views of spec and pool, and whom it tells."""

    spec: Callable[[], Spec]
    pool: Callable[[], WorkPool]
    may_claim: Callable[[], bool]
    polled: Callable[[OperatorError | None], None]
    forbidden: Callable[[str], None]


class Pipeline:
    """Everything that happens to the runs of one pool on one connection."""

    def __init__(
        self,
        place: Place,
        outside: Outside,
        *,
        api: PrefectApi,
        kube: KubernetesClient,
        jobs: Cache[Job],
        pods: Cache[Pod],
        tls: ssl.SSLContext,
        reconcilers: int,
    ) -> None:
        self._outside = outside
        self._jobs, self._pods = jobs, pods
        self._reconcilers = reconcilers
        self.ledger = Ledger()
        self.queue: WorkQueue[UUID] = WorkQueue()
        self.runlog = RunLog(api)
        self._actions = Actions(
            place,
            api=api,
            kube=kube,
            ledger=self.ledger,
            job_cache=jobs,
            runlog=self.runlog,
            pool=outside.pool,
            jobs=lambda: outside.spec().jobs,
            forbidden=outside.forbidden,
        )
        self.resync = Resync(
            api=api,
            pool_id=place.pool_id,
            queue=self.queue,
            ledger=self.ledger,
            actions=self._actions,
            jobs=jobs,
            pods=pods,
            heard=outside.polled,
        )
        self.acquire = Acquire(
            api=api,
            queue=self.queue,
            ledger=self.ledger,
            spec=outside.spec,
            load=self.load,
            open_=outside.may_claim,
            heard=outside.polled,
        )
        self._events = EventStream(
            api.server, pool_id=place.pool_id, tls=tls, wake=self._woken, connected=self._connected
        )

    def load(self) -> Load:
        """Which runs are in flight."""
        return capacity.load(self.ledger, self._jobs, self._pods)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Create every task of the pipeline; the death of one ends all."""
        group.create_task(self.resync.run(), name="resync")
        group.create_task(self._acquire_once_adopted(), name="acquire")
        group.create_task(self._events.run(), name="events")
        group.create_task(self.runlog.run(), name="runlog")
        for number in range(self._reconcilers):
            group.create_task(self._reconciler().run(), name=f"reconciler-{number}")

    async def drain(self, seconds: float) -> None:
        """Begin nothing more, let what is in progress end, send what is left of the run logs."""
        self.queue.close()
        try:
            async with asyncio.timeout(seconds):
                await self.queue.drained()
                await self.runlog.flush()
        except TimeoutError:
            log.warning("what was in progress after %.0f s is cut: a restart takes it up", seconds)

    def _reconciler(self) -> Reconciler:
        return Reconciler(
            queue=self.queue,
            ledger=self.ledger,
            jobs=self._jobs,
            pods=self._pods,
            actions=self._actions,
            policy=lambda: Policy(
                pending_timeout=self._outside.spec().jobs.pending_timeout_seconds
            ),
            idle=self.acquire.slot_freed,
            heard=self._doubted,
        )

    def _policy(self) -> Policy:
        return Policy(pending_timeout=self._outside.spec().jobs.pending_timeout_seconds)

    def _doubted(self, error: OperatorError) -> None:
        """An action found Prefect silent: a poll tells whether it is."""
        if isinstance(error, PrefectUnavailable):
            self.acquire.wake()

    async def _acquire_once_adopted(self) -> None:
        await self.resync.adopted.wait()
        await self.acquire.run()

    def changed(self, run_id: str) -> None:
        """A Job or pod of the run changed."""
        if run_id:
            self.queue.add(UUID(run_id))

    def _woken(self, run_id: UUID, state_type: str) -> None:
        """Only a SCHEDULED run asks for a poll; of the others only those we know are read again."""
        record = self.ledger.get(run_id)
        if record is not None:
            record.changed_at = time.monotonic()
        if state_type == "SCHEDULED":
            self.acquire.wake()
        elif record is None and state_type != "CANCELLING":
            return
        if record is not None or state_type == "CANCELLING":
            self.queue.add(run_id)

    def _connected(self, open_: bool) -> None:
        """Events may have been missed, or the server may be gone: a poll tells."""
        self.acquire.wake()
