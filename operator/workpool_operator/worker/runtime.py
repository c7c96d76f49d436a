"""What a started worker holds: both APIs, its claims, and one engine for each namespace of Jobs.

Nothing is asked of Kubernetes before `open`, which may fail and be called again: a worker that
cannot reach its cluster claims nothing, says why, and stays up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self
from uuid import UUID

from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound

from workpool_operator import settings
from workpool_operator.dispatch.place import Place
from workpool_operator.errors import KubernetesRefused, OperatorError
from workpool_operator.jobs import names
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.kube import secrets
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.views import Job
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.events import EventStream
from workpool_operator.prefect_api.runlog import RunLog
from workpool_operator.prefect_api.views import Run, WorkPool
from workpool_operator.worker import killing, surroundings
from workpool_operator.worker.claims import Claims
from workpool_operator.worker.engine import Engine
from workpool_operator.worker.patience import until_answered
from workpool_operator.worker.settings import PREFIX, WorkerSettings


class Runtime:
    """Use it as an async context manager, then `open` it for the pool that the worker serves;
    `work_pool()` is that pool as the worker last saw it."""

    def __init__(self, *, pool: str, worker_name: str, work_pool: Callable[[], WorkPool]) -> None:
        self._pool = pool
        self._work_pool = work_pool
        self._worker_name = worker_name
        self._settings = WorkerSettings()
        self._around = surroundings.of_settings()
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._kube: KubernetesClient | None = None
        self._place: Place | None = None
        self._claims: Claims | None = None
        self._engines: dict[str, Engine] = {}
        self._credentials: tuple[dict[str, Any], ...] = ()
        self.api = PrefectApi(self._around.server, pool=pool)
        self.runlog = RunLog(self.api)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        await self._stack.enter_async_context(self.api)
        self._spawn(self.runlog.run(), name="runlog")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Jobs go on without the worker; whoever comes next takes them up."""
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self.runlog.flush()
            await self._stack.aclose()

    async def open(self, pool_id: UUID) -> Claims:
        """Ready to claim runs of the pool.

        Raises:
            OperatorError: the cluster, or what identifies it, cannot be read now.
        """
        async with self._opening:
            if self._place is None or self._place.pool_id != pool_id:
                self._serve(await self._look(pool_id))
        return self.claims

    def _serve(self, place: Place) -> None:
        """From now on; the engines of a pool that was before go on to the end of its runs."""
        self._engines, self._place = {}, place
        self._claims = Claims(place, api=self.api, runlog=self.runlog)
        events = EventStream(
            self._around.server,
            pool_id=place.pool_id,
            wake=self._woken,
            connected=_ignore,
        )
        self._spawn(events.run(), name="events")

    @property
    def is_open(self) -> bool:
        return self._claims is not None

    @property
    def claims(self) -> Claims:
        assert self._claims is not None
        return self._claims

    @property
    def place(self) -> Place:
        assert self._place is not None
        return self._place

    @property
    def _cluster(self) -> KubernetesClient:
        assert self._kube is not None
        return self._kube

    async def engine(self, namespace: str) -> Engine:
        """The namespace's engine, with what its pods need to reach the server."""
        if namespace not in self._engines:
            keep = partial(self._keep_credentials, namespace)
            await until_answered(keep, about=f"{namespace}: credentials of its pods")
        if namespace not in self._engines:
            place = replace(self.place, namespace=namespace)
            engine = Engine(
                place,
                api=self.api,
                kube=self._cluster,
                runlog=self.runlog,
                settings=self._settings,
                pool=self._work_pool,
            )
            self._tasks += engine.start(self._group)
            self._engines[namespace] = engine
        return self._engines[namespace]

    async def is_outlived(self, run: Run) -> bool:
        """The Job of the run's last attempt is ours and has not ended: its engine sees to it."""
        namespace, _, name = (run.infrastructure_pid or "").partition(":")
        if not name:
            return False
        try:
            job: Job = await self._cluster.get(JOBS, namespace, name)
        except KubernetesRefused:
            return False
        if job.ended or not self.place.owns(job):
            return False
        await self.engine(namespace)
        return True

    async def kill(
        self, infrastructure_pid: str, *, run_id: UUID | None, grace_seconds: int
    ) -> None:
        """Delete the Job of that name (`killing`)."""
        namespace, name = killing.parse(infrastructure_pid)
        try:
            await killing.kill(
                self._cluster, self.place, namespace, name, grace_seconds=grace_seconds
            )
        except InfrastructureNotFound:
            if run_id and not await killing.made_here(self.api, self.place, run_id, name):
                raise InfrastructureNotAvailable(
                    f"Job {namespace}/{name} was not made by a worker of this pool on this cluster."
                ) from None
            raise

    def inherit(self, configuration: KubernetesJobConfiguration) -> None:
        """Give the run what the worker's own settings say, below what the run says itself."""
        configuration.inherit((*self._around.entries, *self._credentials))

    async def _look(self, pool_id: UUID) -> Place:
        if self._kube is None:
            self._kube = await self._stack.enter_async_context(
                await KubernetesClient.from_environment()
            )
        cluster_id = await self._kube.namespace_uid(self._kube.namespace)
        return Place(
            cluster_id=cluster_id,
            binding=f"worker:{self._pool}",  # no binding's: Kubernetes has no ":" in names
            binding_id=names.binding_id(cluster_id=cluster_id, binding=f"worker:{pool_id}"),
            worker_name=self._worker_name,
            namespace="",
            server_url=self._around.server.url,
            pool_id=pool_id,
            environment=(),
            template_environment=settings.template_environment(),
        )

    async def _keep_credentials(self, namespace: str) -> None:
        """The Secret outlives the worker, whose Jobs need it."""
        owner = f"worker {self._pool} {self.place.binding_id[:12]}"
        given = self._around.credentials(self._settings, owner=owner)
        if given.kept:
            await self._keep(namespace, given.kept)
        self._credentials = given.entries

    async def _keep(self, namespace: str, secret: dict[str, Any]) -> None:
        try:
            await secrets.keep(self._cluster, namespace, secret)
        except KubernetesRefused as refused:
            advice = (
                f"Grant the worker's ServiceAccount to create and patch Secrets in {namespace!r}, "
                f"or name one by {PREFIX}API_KEY_SECRET_NAME and ..._SECRET_KEY."
            )
            text = str(refused).rstrip(". ")
            raise OperatorError(f"The Secret of its credentials: {text}. {advice}") from refused

    def _woken(self, run_id: UUID, state_type: str, queue: str | None) -> None:
        for engine in self._engines.values():
            engine.woken(run_id)

    def _spawn(self, loop: Any, *, name: str) -> None:
        self._tasks.append(self._group.create_task(loop, name=name))


def _ignore(why: str | None) -> None:
    """Whether the stream is open makes no difference but of latency."""
