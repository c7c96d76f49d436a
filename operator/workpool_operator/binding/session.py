"""One served pool: from the binding's spec to a running pipeline and a truthful status.

The reflectors, the inspection and the status writer live as long as the session; connections come
and go. Nothing but a defect of the operator ends a session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from workpool_operator.binding import conditions as c
from workpool_operator.binding.conditions import Situation, Verdict
from workpool_operator.binding.connection import STUCK_SECONDS, Connection
from workpool_operator.binding.inspection import Inspection
from workpool_operator.binding.place import place_of
from workpool_operator.binding.run_secrets import RunSecrets
from workpool_operator.binding.status import Sight, StatusWriter
from workpool_operator.binding.surroundings import Binding, Surroundings
from workpool_operator.dispatch import capacity
from workpool_operator.dispatch.ledger import Ledger
from workpool_operator.dispatch.pipeline import Outside, Pipeline
from workpool_operator.dispatch.place import Place
from workpool_operator.errors import BindingFault, KubernetesRefused, OperatorError
from workpool_operator.jobs import names
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.client import JOBS, PODS, Resource
from workpool_operator.kube.reflector import Reflector
from workpool_operator.kube.views import BINDING_LABEL, Job, Pod
from workpool_operator.prefect_api.client import PrefectApi, Server
from workpool_operator.prefect_api.views import WorkPool
from workpool_operator.telemetry import Trouble

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
FAILED_STATUS_SECONDS = 3.0
FAREWELL_SECONDS = 1.5


class Session:
    """Serves one binding; `announce` is told when Ready or its reason changes."""

    def __init__(
        self,
        binding: Binding,
        around: Surroundings,
        *,
        cluster_id: str,
        announce: Callable[[Verdict], None],
    ) -> None:
        self._binding = binding
        self._around = around
        self._cluster_id = cluster_id
        self._namespace = binding.spec().jobs.namespace or binding.namespace
        self._binding_id = names.binding_id(cluster_id=cluster_id, binding=binding.key)
        self._worker_name = names.worker_name(
            cluster_id=cluster_id, namespace=binding.namespace, name=binding.name
        )
        self._run_secrets = RunSecrets(binding, around.kube, binding_id=self._binding_id)
        self._inspection = Inspection(
            binding, around.kube, job_namespace=self._namespace, run_secrets=self._run_secrets
        )
        self._jobs: Cache[Job] = Cache(self._run_changed)
        self._pods: Cache[Pod] = Cache(self._run_changed)
        self._connection: Connection | None = None
        self._server: Server | None = None
        self._trouble = Trouble(log, binding.key)
        self._writer = StatusWriter(around.kube, binding, announce=announce)

    @property
    def synced(self) -> bool:
        """Both caches hold what the cluster holds."""
        return self._jobs.synced.is_set() and self._pods.synced.is_set()

    @property
    def starting(self) -> bool:
        """Not synced yet, and not for a fault of the binding's."""
        return not self.synced and not self._inspection.conditions.fault()

    async def run(self) -> None:
        """Serve for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reflector(JOBS, self._jobs).run(), name="jobs")
                group.create_task(self._reflector(PODS, self._pods).run(), name="pods")
                group.create_task(self._keep_status(), name="status")
                group.create_task(self._keep_connected(), name="connections")
        finally:
            for part in ("status", "connections"):
                self._around.pulse.stop(f"{self._binding.key} {part}")

    async def drain(self) -> None:
        """Before the end: let the writes in progress end, begin no more."""
        if self._connection:
            await self._connection.drain()

    async def say_stopped(self) -> None:
        """After the end: nobody serves the binding until an operator runs again."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._writer.write(self._sight(stopped=True))
        except (OperatorError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.warning("%s: its status does not say that we stop: %s", self._binding.key, why)

    async def retire(self) -> None:
        """After the end, the binding being deleted: Prefect need not list its worker any more."""
        if self._server is None:
            return  # it never was a worker
        try:
            async with asyncio.timeout(FAREWELL_SECONDS), self._api(self._server) as api:
                await api.delete_worker(self._worker_name)
        except (OperatorError, TimeoutError) as error:
            log.warning(
                "%s: its worker %s stays in Prefect, as offline: %s",
                self._binding.key,
                self._worker_name,
                str(error) or "no answer in time",
            )

    # Connections

    async def _keep_connected(self) -> None:
        """Connect, serve until another connection is needed, and again."""
        while True:
            self._beat("connections", within=STUCK_SECONDS)
            try:
                reason = await self._connect_and_serve()
                log.info("%s: connecting anew: %s", self._binding.key, reason)
            except OperatorError as error:
                self._inspection.failed(error)
                await self._inspection.pause()

    async def _connect_and_serve(self) -> str:
        server = await self._inspection.credentials()
        async with self._api(server) as api:
            pool = await self._inspection.look(api)
            await self._run_secrets.drop_unneeded()
            self._server = server
            self._around.pulse.stop(f"{self._binding.key} connections")
            self._connection = self._make_connection(api, pool)
            try:
                return await self._connection.serve(worker=self._worker_name)
            finally:
                self._connection = None

    def _make_connection(self, api: PrefectApi, pool: WorkPool) -> Connection:
        return Connection(
            self._binding,
            self._around,
            api=api,
            pool_id=pool.id,
            pipeline=self._make_pipeline(api, pool),
            inspection=self._inspection,
        )

    def _make_pipeline(self, api: PrefectApi, pool: WorkPool) -> Pipeline:
        return Pipeline(
            self._place(api, pool),
            Outside(
                spec=self._binding.spec,
                pool=lambda: self._inspection.served or pool,
                may_claim=self._inspection.may_claim,
                polled=self._polled,
                forbidden=self._forbidden,
                consent=self._inspection.consent.check,
            ),
            api=api,
            kube=self._around.kube,
            jobs=self._jobs,
            pods=self._pods,
            tls=self._around.tls,
            reconcilers=self._around.reconcilers,
        )

    def _place(self, api: PrefectApi, pool: WorkPool) -> Place:
        return place_of(
            self._binding,
            cluster_id=self._cluster_id,
            server_url=api.server.url,
            pool_id=pool.id,
            credentials=self._run_secrets.given(api.server),
        )

    def _polled(self, error: OperatorError | None) -> None:
        if self._connection:
            self._connection.polled(error)

    def _forbidden(self, message: str) -> None:
        self._inspection.failed(BindingFault(c.JOBS_PERMITTED, "JobsForbidden", message))
        self._inspection.ask()

    def _api(self, server: Server) -> PrefectApi:
        return PrefectApi(server, pool=self._binding.spec().work_pool.name, tls=self._around.tls)

    # Kubernetes

    def _reflector(self, resource: Resource, cache: Cache[Any]) -> Reflector:
        return Reflector(
            self._around.kube,
            resource,
            namespace=self._namespace,
            selector=f"{BINDING_LABEL}={self._binding_id}",
            cache=cache,
            heard=lambda error: self._reflected(resource, error),
        )

    def _reflected(self, resource: Resource, error: OperatorError | None) -> None:
        """A refusal becomes a condition, too: the rights are looked at."""
        trouble = f"cannot follow {resource.plural}"
        if error is None:
            self._trouble.over(trouble)
            if self._connection:
                self._connection.pipeline.caught_up()
            return
        self._trouble.begins(trouble, error)
        if isinstance(error, KubernetesRefused):
            self._inspection.ask()

    def _run_changed(self, run_id: str) -> None:
        if self._connection:
            self._connection.pipeline.changed(run_id)

    # Status

    async def _keep_status(self) -> None:
        while True:
            self._beat("status", within=60)
            if self._connection:
                self._connection.check_reconcilers()
            if self._binding.generation() != self._inspection.generation:
                self._inspection.ask()
            await asyncio.sleep(await self._write_status())

    async def _write_status(self) -> float:
        """Seconds until it is to be done again."""
        try:
            await self._writer.write(self._sight())
        except OperatorError as error:
            self._trouble.begins("cannot write its status", error)
            return FAILED_STATUS_SECONDS
        self._trouble.over("cannot write its status")
        return STATUS_SECONDS

    def _sight(self, *, stopped: bool = False) -> Sight:
        spec, looked = self._binding.spec(), self._inspection
        pipeline = self._connection.pipeline if self._connection else None
        load = pipeline.load() if pipeline else capacity.load(Ledger(), self._jobs, self._pods)
        polled = pipeline.acquire.polled if pipeline else None
        limit = spec.concurrency_limit
        return Sight(
            generation=looked.generation,
            worker_name=self._worker_name,
            server_url=spec.server.url or "",
            verdicts=looked.conditions.verdicts(),
            situation=Situation(
                suspended=spec.suspend,
                pool_paused=bool(looked.pool and looked.pool.is_paused),
                full_at=limit if limit and load.in_flight >= limit else None,
                synced=self.synced and polled is not None and polled.at is not None,
                stopped=stopped,
            ),
            server_version=looked.server_version,
            pool=looked.pool,
            running=len(load.running),
            pending=len(load.pending),
            queued=polled.queued if polled else 0,
            polled_at=polled.at if polled else None,
        )

    def _beat(self, part: str, *, within: float) -> None:
        self._around.pulse.beat(f"{self._binding.key} {part}", within=within)
