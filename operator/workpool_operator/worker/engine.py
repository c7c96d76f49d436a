"""One namespace of a worker: the operator's own dispatch path, but for polls, which are Prefect's.

    reflectors --> caches --> queue --> reconcilers: snapshot -> decide -> execute
                      |                     |
                      +----> followers <----+

It looks after every Job that the pool's workers made in the namespace, whoever follows it: what it
does to a run may be repeated by the worker beside this one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from workpool_operator.dispatch.creation import Creation, no_consent_needed
from workpool_operator.dispatch.executor import Executor
from workpool_operator.dispatch.job_creator import JobCreator
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.reconciler import Reconciler
from workpool_operator.dispatch.state_proposals import StateProposals
from workpool_operator.dispatch.store import RunRecord, RunStore
from workpool_operator.dispatch.sweep import Sweeper
from workpool_operator.dispatch.workqueue import WorkQueue
from workpool_operator.errors import KubernetesRefused, OperatorError, PrefectUnavailable
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.cluster import ClusterCache, Subscriber
from workpool_operator.kube.views import BINDING_LABEL
from workpool_operator.prefect_api.client import PAGE_SIZE, PrefectApi
from workpool_operator.prefect_api.runlog import RunLog
from workpool_operator.prefect_api.views import WorkPool
from workpool_operator.telemetry import Trouble
from workpool_operator.worker.follower import Follower
from workpool_operator.worker.renderer import ConfigurationRenderer
from workpool_operator.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

RECONCILERS = 4
REFRESH_SECONDS = 60.0  # a run's end in Prefect is seen so late where the event stream is refused


class Engine(Subscriber):
    """Keeps the runs of `place` on their way; `follow` waits for one of them."""

    def __init__(
        self,
        place: Place,
        *,
        api: PrefectApi,
        kube: KubernetesClient,
        runlog: RunLog,
        settings: WorkerSettings,
        pool: Callable[[], WorkPool],
    ) -> None:
        self._place, self._api, self._kube = place, api, kube
        self._settings = settings.run_settings()
        self._followers: dict[UUID, Follower] = {}
        self._trouble = Trouble(log, place.namespace)
        self._store = RunStore(
            lambda run_id: place.transition_ids(run_id, self._jobs.ever_of(str(run_id)))
        )
        self._queue: WorkQueue[UUID] = WorkQueue()
        self._cluster = ClusterCache(kube, selector=f"{BINDING_LABEL}={place.binding_id}")
        self._cluster.watch(place.namespace)
        self._jobs, self._pods = self._cluster.jobs, self._cluster.pods
        job_creator = JobCreator(
            place,
            renderer=ConfigurationRenderer(place, configured=self._configuration, pool=pool),
            creation=Creation(
                kube,
                namespace=place.namespace,
                environment_secret=lambda: self._settings.environment_secret,
                consent=no_consent_needed,
            ),
            store=self._store,
            job_cache=self._jobs,
            runlog=runlog,
            forbidden=lambda text: self._trouble.begins("cannot create Jobs", text),
        )
        self._executor = Executor(
            place,
            kube=kube,
            queue=self._queue,
            store=self._store,
            job_cache=self._jobs,
            pod_cache=self._pods,
            proposals=StateProposals(place, api=api, runlog=runlog, store=self._store),
            job_creator=job_creator,
            settings=lambda: self._settings,
            listener=self,
        )
        self._sweeper = Sweeper(
            kube,
            namespace=place.namespace,
            binding_id=place.binding_id,
            jobs=self._jobs,
            wanted=lambda: self._settings.environment_secret,
        )

    @property
    def namespace(self) -> str:
        return self._place.namespace

    def start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Every task of the engine; the death of one ends the worker."""
        loops = [
            self._follow_cluster(),
            self._refresh(),
            self._sweeper.run(),
            *(self._reconciler().run() for _ in range(RECONCILERS)),
        ]
        return [group.create_task(loop, name=f"{self.namespace}: engine") for loop in loops]

    @contextmanager
    def follow(
        self, record: RunRecord, configuration: KubernetesJobConfiguration | None
    ) -> Iterator[Follower]:
        """Take a claimed run over; with a configuration its Job is made where there is none."""
        claimed = record.claimed_run
        if claimed is None:
            raise ValueError("only a claimed run is followed")
        run_id = claimed.run.id
        follower = Follower(self.namespace, run_id, claimed.claim.id, configuration)
        self._followers[run_id] = follower
        self._store.put(run_id, record)
        if time.monotonic() - record.answered_at > self._settings.timeouts.state_age:
            self._store.mark_stale(run_id)  # it may have been cancelled while it was configured
        self._show(follower)
        self._queue.add(run_id)
        try:
            yield follower
        finally:
            self._followers.pop(run_id, None)

    def woken(self, run_id: UUID) -> None:
        """Prefect says that the run changed: it is read again if it is known here."""
        if self._store.get(run_id) is not None:
            self._store.mark_stale(run_id)
            self._queue.add(run_id)

    def _configuration(self, run_id: UUID) -> KubernetesJobConfiguration | None:
        follower = self._followers.get(run_id)
        return follower.configuration if follower else None

    # What changes

    def changed(self, run_id: UUID) -> None:
        """See `kube.cluster.Subscriber`."""
        if follower := self._followers.get(run_id):
            self._show(follower)
        self._queue.add(run_id)

    def _show(self, follower: Follower) -> None:
        key = str(follower.run_id)
        follower.saw(self._jobs.of(key), (*self._pods.departed(key), *self._pods.of(key)))
        self._judge(follower)

    def _judge(self, follower: Follower) -> None:
        if self._synced:
            live = [pod for pod in self._pods.of(str(follower.run_id)) if not pod.ended]
            follower.judge(self._store.get(follower.run_id), live)

    def capacity_freed(self) -> None:
        """See `Listener`: the end of a run may be reported."""
        self._judge_all()

    def offer_expired(self) -> None:
        """See `Listener`: a worker polls by itself."""

    def _judge_all(self) -> None:
        for follower in self._followers.values():
            self._judge(follower)

    @property
    def _synced(self) -> bool:
        return self._cluster.is_synced(self.namespace)

    # Loops

    async def _refresh(self) -> None:
        """Read what is followed again, slowly: an event may be missed, a record only grow old."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self._read_all()
            except OperatorError as error:
                log.info("%s: its runs cannot be read: %s", self.namespace, error)

    async def _read_all(self) -> None:
        known = sorted(self._followers)
        for start in range(0, len(known), PAGE_SIZE):
            ids = [str(run_id) for run_id in known[start : start + PAGE_SIZE]]
            asked_at = time.monotonic()
            for run in await self._api.filter_runs({"flow_runs": {"id": {"any_": ids}}}):
                if self._store.get(run.id) is not None:
                    self._store.apply(run.id, run, asked_at=asked_at)
        for run_id in known:
            self._queue.add(run_id)

    async def _follow_cluster(self) -> None:
        with self._cluster.subscribe(self):
            await self._cluster.run()

    def listed(self, namespace: str, resource: str) -> None:
        """See `kube.cluster.Subscriber`."""
        self._trouble.over(f"cannot follow {resource}")
        self._judge_all()

    def failed(self, namespace: str, resource: str, error: OperatorError) -> None:
        """End what waits here if the first list is refused: nothing could be seen of it."""
        self._trouble.begins(f"cannot follow {resource}", error)
        if isinstance(error, KubernetesRefused) and not self._synced:
            for follower in self._followers.values():
                follower.fail(_unseen(error, resource, namespace))

    def _reconciler(self) -> Reconciler:
        return Reconciler(
            self._place,
            queue=self._queue,
            store=self._store,
            jobs=self._jobs,
            pods=self._pods,
            executor=self._executor,
            policy=lambda: self._settings.timeouts,
            heard=self._heard,
        )

    def _heard(self, error: OperatorError) -> None:
        trouble = "Prefect does not answer" if isinstance(error, PrefectUnavailable) else "trouble"
        log.info("%s: %s: %s", self.namespace, trouble, error)


def _unseen(error: KubernetesRefused, resource: str, namespace: str) -> OperatorError:
    text = str(error).rstrip(". ")
    advice = f"Grant the worker's ServiceAccount to list and watch {resource}"
    return OperatorError(f"{text}. {advice} in namespace {namespace!r}.")
