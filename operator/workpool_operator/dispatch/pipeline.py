"""The dispatch path of one served pool, drawn once.

    events --wake--> acquire --offer--> +-------+
    reflectors (the session's) --add--> | work  | --> reconcilers: snapshot -> decide -> execute
    resync ---------------------add---> | queue |
    timers -------------------add_after-+-------+

Lives as long as one connection: another server, other credentials or another pool are another
pipeline, which adopts from both stores what this one left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from workpool_operator.dispatch import capacity
from workpool_operator.dispatch.acquire import Acquire
from workpool_operator.dispatch.capacity import Load
from workpool_operator.dispatch.creation import Creation
from workpool_operator.dispatch.executor import Executor
from workpool_operator.dispatch.job_creator import JobCreator
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.reconciler import Reconciler
from workpool_operator.dispatch.renderer import TemplateRenderer
from workpool_operator.dispatch.resync import Resync
from workpool_operator.dispatch.settings import PollSettings, RunSettings
from workpool_operator.dispatch.state_proposals import StateProposals
from workpool_operator.dispatch.store import RunStore
from workpool_operator.dispatch.sweep import Sweeper
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

LISTENING_SECONDS = 2.0  # for the event stream to open before both stores are read


@dataclass(frozen=True, slots=True)
class Outside:
    """What the pipeline sees of its session: live views of settings and pool, and whom it tells.

    `pool` raises Unavailable while no Job can be made from its template; `queues` are the work
    queues to poll, None for all.
    """

    settings: Callable[[], RunSettings]
    poll_settings: Callable[[], PollSettings]
    pool: Callable[[], WorkPool]
    queues: Callable[[], Sequence[str] | None]
    may_claim: Callable[[], bool]
    polled: Callable[[OperatorError | None], None]
    forbidden: Callable[[str], None]
    consent: Callable[[], Awaitable[None]]


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
        reconcilers: int,
    ) -> None:
        self._place, self._outside = place, outside
        self._jobs, self._pods = jobs, pods
        self._events_missed = False
        self._listened = asyncio.Event()  # the event stream opened, or did not
        self._reading = False
        self.events_lost: str | None = ""  # why the event stream is not open; None while it is
        self._reconcilers = reconcilers
        self.store = RunStore(
            lambda run_id: place.transition_ids(run_id, jobs.ever_of(str(run_id)))
        )
        self.queue: WorkQueue[UUID] = WorkQueue()
        self.runlog = RunLog(api)
        creation = Creation(
            kube,
            namespace=place.namespace,
            environment_secret=self._environment_secret,
            consent=outside.consent,
        )
        job_creator = JobCreator(
            place,
            renderer=TemplateRenderer(place, api=api, pool=outside.pool),
            creation=creation,
            store=self.store,
            job_cache=jobs,
            runlog=self.runlog,
            forbidden=outside.forbidden,
        )
        self._executor = Executor(
            place,
            kube=kube,
            queue=self.queue,
            store=self.store,
            job_cache=jobs,
            pod_cache=pods,
            proposals=StateProposals(place, api=api, runlog=self.runlog, store=self.store),
            job_creator=job_creator,
            settings=outside.settings,
            listener=self,
        )
        self._sweeper = Sweeper(
            kube,
            namespace=place.namespace,
            binding_id=place.binding_id,
            jobs=jobs,
            wanted=self._environment_secret,
        )
        self.resync = Resync(
            api=api,
            place=place,
            queue=self.queue,
            store=self.store,
            jobs=jobs,
            pods=pods,
            heard=outside.polled,
        )
        self.acquire = Acquire(
            api=api,
            queue=self.queue,
            store=self.store,
            settings=outside.poll_settings,
            queues=outside.queues,
            load=self.load,
            open_=outside.may_claim,
            heard=self._polled,
        )
        self._events = EventStream(
            api.server, pool_id=place.pool_id, wake=self._woken, connected=self._connected
        )

    def load(self) -> Load:
        """Which runs are in flight."""
        return capacity.load(self.store, self._jobs, self._pods)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Create every task of the pipeline; the death of one ends all."""
        group.create_task(self._events.run(), name="events")
        group.create_task(self._resync_once_listening(), name="resync")
        group.create_task(self._acquire_once_adopted(), name="acquire")
        group.create_task(self.runlog.run(), name="runlog")
        group.create_task(self._sweeper.run(), name="sweeper")
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
            self._place,
            queue=self.queue,
            store=self.store,
            jobs=self._jobs,
            pods=self._pods,
            executor=self._executor,
            policy=lambda: self._outside.settings().timeouts,
            heard=self._doubted,
        )

    def capacity_freed(self) -> None:
        """See `Listener`."""
        self.acquire.slot_freed()

    def offer_expired(self) -> None:
        """See `Listener`."""
        self.acquire.wake()

    def _environment_secret(self) -> bool:
        return self._outside.settings().environment_secret

    def _doubted(self, error: OperatorError) -> None:
        """An action found Prefect silent: a poll tells whether it is."""
        if isinstance(error, PrefectUnavailable):
            self.acquire.wake()

    async def _resync_once_listening(self) -> None:
        """Stores that are read before the event stream opens have to be read again after it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTENING_SECONDS):
                await self._listened.wait()
        self._reading = True
        await self.resync.run()

    async def _acquire_once_adopted(self) -> None:
        await self.resync.adopted.wait()
        await self.acquire.run()

    def changed(self, run_id: UUID) -> None:
        """A Job or pod of the run changed."""
        self.queue.add(run_id)

    def caught_up(self) -> None:
        """A cache is complete again: what backs off from an outage need not wait any longer."""
        self.store.end_outage()
        self.resync.wake()

    def resume(self) -> None:
        """What kept runs from being claimed, or their Jobs from being made, is mended."""
        self.acquire.wake()
        self.resync.wake()

    def _woken(self, run_id: UUID, state_type: str, queue: str | None) -> None:
        """Only a SCHEDULED run of a queue that is polled asks for a poll; of the others only those
        that we know are read again."""
        if state_type == "SCHEDULED" and self._polls(queue):
            self.acquire.wake()
        if state_type == "CANCELLING" or self.store.get(run_id) is not None:
            self.store.mark_stale(run_id)
            self.queue.add(run_id)

    def _polls(self, queue: str | None) -> bool:
        """Whether a poll may bring runs of the queue; one that is not told may be any."""
        queues = self._outside.queues()
        return queue is None or queues is None or queue in queues

    def _connected(self, why: str | None) -> None:
        """Events may have been missed, or the server may be gone: a poll tells."""
        self.events_lost = why
        self._events_missed |= self._reading
        self._listened.set()
        self.acquire.wake()

    def _polled(self, error: OperatorError | None) -> None:
        """After an outage a poll shows only what is SCHEDULED: the rest is read anew."""
        self._events_missed |= error is not None
        if self._events_missed and error is None:
            self._events_missed = False
            self.resync.wake()
        self._outside.polled(error)
