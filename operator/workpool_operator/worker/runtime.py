"""Composes a started worker: both APIs, the cluster cache and the controller of its pool's runs.

No request goes to Kubernetes before `open`, which can fail and be called again: a worker that
cannot reach its cluster claims nothing, logs the reason, and keeps running.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any, Self
from uuid import UUID

from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound

from workpool_operator import settings
from workpool_operator.clock import SYSTEM_CLOCK, Clock, Clocks
from workpool_operator.errors import KubernetesRefused, OperatorError, PrefectUnavailable
from workpool_operator.jobs import names
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.kube import secrets
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.cluster import ClusterCache, Subscriber
from workpool_operator.kube.models import BINDING_LABEL
from workpool_operator.logs import ProblemLogger
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run, WorkPool
from workpool_operator.retry import retry_unavailable
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.handle import RunHandle
from workpool_operator.runs.listener import Listener
from workpool_operator.ttl_cache import TTLCache
from workpool_operator.worker import infrastructure, prefect_settings
from workpool_operator.worker.renderer import ConfigurationRenderer
from workpool_operator.worker.settings import PREFIX, WorkerSettings

log = logging.getLogger(__name__)

RECONCILERS = 4
RESYNC_SECONDS = 60.0  # the latency of a run's end in Prefect if the event stream is refused
DRAIN_SECONDS = 2.0
FLUSH_SECONDS = 1.0
CREDENTIALS_SECONDS = 60.0  # after which those of a namespace's pods are applied again


class WorkerRuntime(Listener, Subscriber):
    """The parts of a started worker; use it as an async context manager, and open it for a pool.

    `work_pool()` returns that pool as the worker last read it.
    """

    def __init__(
        self,
        *,
        pool: str,
        worker_name: str,
        work_pool: Callable[[], WorkPool],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._work_pool = work_pool
        self._worker_name = worker_name
        self._settings = WorkerSettings()
        self._inherited = prefect_settings.inherited_settings()
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: KubernetesClient | None = None
        self._owner: Owner | None = None
        self._controller: RunController | None = None
        self._kept = TTLCache[None](seconds=CREDENTIALS_SECONDS)  # by namespace
        self._problems = ProblemLogger(log, worker_name)
        self._configurations: dict[UUID, KubernetesJobConfiguration] = {}
        self._credentials: tuple[dict[str, Any], ...] = ()
        self.api = PrefectApi(self._inherited.server, pool=pool)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        await self._stack.enter_async_context(self.api)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop; the Jobs continue, and the next worker adopts them."""
        try:
            if self._controller:
                await self._controller.drain(DRAIN_SECONDS)
                await self._controller.flush(FLUSH_SECONDS)
            for task in self._tasks:
                task.cancel()
            await self._group.__aexit__(None, None, None)
        finally:
            await self._stack.aclose()

    async def open(self, pool_id: UUID) -> RunController:
        """Return the controller of the pool's runs, ready to claim.

        Raises:
            OperatorError: the cluster, or what identifies it, cannot be read now.
        """
        async with self._opening:
            if self._owner is None or self._owner.pool_id != pool_id:
                self._serve(await self._identify(pool_id))
        return self.controller

    def _serve(self, owner: Owner) -> None:
        """Serve the owner's pool from now on; the runs of a previous pool are still driven to their
        end."""
        self._owner = owner
        self._kept = TTLCache[None](seconds=CREDENTIALS_SECONDS, clock=self._clock)
        self._cluster = ClusterCache(
            self._kube, selector=f"{BINDING_LABEL}={owner.binding_id}", clock=self._clock
        )
        self._controller = RunController(
            owner,
            prefect=self.api,
            kube=self._kube,
            cluster=self._cluster,
            renderer=ConfigurationRenderer(
                owner, configured=self._configurations.get, pool=self._work_pool
            ),
            settings=self._settings.run_settings,
            listener=self,
            workers=RECONCILERS,
            resync_seconds=RESYNC_SECONDS,
            clocks=Clocks(self._clock, kubernetes=self._kube.clock, prefect=self.api.clock),
        )
        self._stack.enter_context(self._cluster.subscribe(self))
        self._spawn(self._cluster.run(), name="cluster")
        self._spawn(self._controller.run(), name="controller")

    @property
    def is_open(self) -> bool:
        """Whether the cluster is known and runs can be claimed."""
        return self._controller is not None

    @property
    def controller(self) -> RunController:
        """The controller of the pool that is served."""
        assert self._controller is not None
        return self._controller

    @property
    def owner(self) -> Owner:
        """The identity under which runs are claimed."""
        assert self._owner is not None
        return self._owner

    @property
    def _kube(self) -> KubernetesClient:
        assert self._client is not None
        return self._client

    async def watch(self, namespace: str) -> None:
        """Follow the Jobs of the namespace, and keep the credentials of its pods."""
        keep = partial(self._keep_credentials, namespace)
        about = f"{namespace}: credentials of its pods"
        await self._kept.get(namespace, lambda: retry_unavailable(keep, about=about))
        self._cluster.watch(namespace)

    @contextmanager
    def creating(
        self, handle: RunHandle, configuration: KubernetesJobConfiguration
    ) -> Iterator[None]:
        """Follow the run, whose Job is created from the configuration if it does not exist."""
        self._configurations[handle.run_id] = configuration
        try:
            with handle.following(configuration.namespace):
                yield
        finally:
            self._configurations.pop(handle.run_id, None)

    async def take(self, run_id: UUID) -> RunHandle | None:
        """Claim a run that no poll returned; one that a client keeps PENDING is scheduled first."""
        read_at = self._clock.monotonic()
        run = await self.api.read_run(run_id)
        if run and run.state_type == "PENDING":
            await self.schedule(run_id)
            read_at = self._clock.monotonic()
            run = await self.api.read_run(run_id)
        return await self.controller.claim(run, read_at=read_at) if run else None

    async def schedule(self, run_id: UUID) -> None:
        """Make a run that a client keeps PENDING claimable."""
        await self.api.set_state(run_id, {"type": "SCHEDULED", "name": "Scheduled"})

    async def has_unfinished_job(self, run: Run) -> bool:
        """Return whether the run's previous Job is ours and has not ended; follow it then."""
        namespace, _, name = (run.infrastructure_pid or "").partition(":")
        if not name:
            return False
        try:
            job = await self._kube.get(JOBS, namespace, name)
        except KubernetesRefused:
            return False
        if job.ended or not self.owner.owns(job):
            return False
        await self.watch(namespace)
        return True

    async def kill(
        self, infrastructure_pid: str, *, run_id: UUID | None, grace_seconds: int
    ) -> None:
        """Delete the Job; see `infrastructure.kill`."""
        namespace, name = infrastructure.parse_infrastructure_pid(infrastructure_pid)
        try:
            await infrastructure.kill(
                self._kube, self.owner, namespace, name, grace_seconds=grace_seconds
            )
        except InfrastructureNotFound:
            if run_id and not await infrastructure.was_created_here(
                self.api, self.owner, run_id, name
            ):
                raise InfrastructureNotAvailable(
                    f"Job {namespace}/{name} was not created by a worker of this pool on "
                    "this cluster."
                ) from None
            raise

    def inherit(self, configuration: KubernetesJobConfiguration) -> None:
        """Add the worker's own settings to the run's environment; the run's own values win."""
        configuration.inherit((*self._inherited.entries, *self._credentials))

    async def _identify(self, pool_id: UUID) -> Owner:
        if self._client is None:
            self._client = await self._stack.enter_async_context(
                await KubernetesClient.from_environment()
            )
        cluster_id = await self._kube.namespace_uid(self._kube.namespace)
        return Owner(
            cluster_id=cluster_id,
            binding=f"worker:{self._pool}",  # unlike any binding: names cannot contain a ":"
            binding_id=names.binding_id(cluster_id=cluster_id, binding=f"worker:{pool_id}"),
            worker_name=self._worker_name,
            worker_type=self._work_pool().type,
            namespace="",
            server_url=self._inherited.server.url,
            pool_id=pool_id,
            environment=(),
            template_environment=settings.template_environment(),
            shares_transition_ids=True,
        )

    async def _keep_credentials(self, namespace: str) -> None:
        """Create the Secret, which outlives the worker because its Jobs need it."""
        owner = f"worker {self._pool} {self.owner.binding_id[:12]}"
        given = self._inherited.credentials(self._settings, owner=owner)
        if given.managed_secret:
            await self._keep(namespace, given.managed_secret)
        self._credentials = given.entries

    async def _keep(self, namespace: str, secret: dict[str, Any]) -> None:
        try:
            await secrets.apply(self._kube, namespace, secret)
        except KubernetesRefused as refused:
            advice = (
                f"Grant the worker's ServiceAccount to create and patch Secrets in {namespace!r}, "
                f"or name one by {PREFIX}API_KEY_SECRET_NAME and ..._SECRET_KEY."
            )
            text = str(refused).rstrip(". ")
            raise OperatorError(f"The Secret of its credentials: {text}. {advice}") from refused

    # Listener and Subscriber

    def listed(self, namespace: str, resource: str) -> None:
        """Log that a failure is over."""
        self._problems.resolved(f"cannot watch {resource} in namespace {namespace}")

    def failed(self, namespace: str, resource: str, error: OperatorError) -> None:
        """Log the failure; fail the runs of the namespace if its first list is refused."""
        self._problems.report(f"cannot watch {resource} in namespace {namespace}", error)
        if isinstance(error, KubernetesRefused) and not self._cluster.is_synced(namespace):
            text = str(error).rstrip(". ")
            advice = f"Grant the worker's ServiceAccount to list and watch {resource}"
            fault = OperatorError(f"{text}. {advice} in namespace {namespace!r}.")
            self.controller.fail(namespace, fault)

    def jobs_forbidden(self, message: str) -> None:
        """Log it: the state of each affected run has the grant."""
        self._problems.report("cannot create Jobs", message)

    def prefect_failed(self, error: PrefectUnavailable) -> None:
        """Log it; the controller tries again."""
        log.info("Prefect does not answer: %s", error)

    def resync_failed(self, error: OperatorError) -> None:
        """Log it; the controller tries again."""
        log.info("the runs of the pool cannot be read: %s", error)

    def _spawn(self, loop: Any, *, name: str) -> None:
        self._tasks.append(self._group.create_task(loop, name=name))
