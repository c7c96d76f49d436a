"""One served pool: from the binding's spec to a running controller and a truthful status.

The reflectors, the inspection and the status writer live as long as the session; connections come
and go. A fault of the binding stops claims; the runs in flight are followed as soon as server and
pool are known. Nothing but a defect of the operator ends a session, and the next begins with new
caches.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding import preflight_checks
from workpool_operator.binding.conditions import ConditionState, ServingState
from workpool_operator.binding.connection import OVERDUE_SECONDS, Connection
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.owner import owner_of
from workpool_operator.binding.pool_sharing import PoolConsumer, pool_shared
from workpool_operator.binding.preflight import Preflight
from workpool_operator.binding.secrets import RunSecrets
from workpool_operator.binding.status import StatusInput, StatusWriter
from workpool_operator.errors import KubernetesRefused, OperatorError
from workpool_operator.jobs import names
from workpool_operator.kube.cluster import ClusterCache, Subscriber
from workpool_operator.kube.models import BINDING_LABEL, POOL_LABEL, is_uuid
from workpool_operator.logs import ProblemLogger
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.runs import capacity
from workpool_operator.runs.owner import Owner

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
FAILED_STATUS_SECONDS = 3.0
LAST_STATUS_SECONDS = 1.5


class BindingSession(Subscriber):
    """Serves one binding; `announce` is told when Ready or its reason changes."""

    def __init__(
        self,
        binding: Binding,
        around: OperatorContext,
        *,
        cluster_id: str,
        announce: Callable[[ConditionState], None],
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
        self._inspection = Preflight(
            binding, around, job_namespace=self._namespace, run_secrets=self._run_secrets
        )
        self._cluster = ClusterCache(
            around.kube,
            selector=f"{BINDING_LABEL}={self._binding_id}",
            alive=lambda resource: self._beat(resource, within=OVERDUE_SECONDS),
            clock=around.clock,
        )
        self._cluster.watch(self._namespace)
        self._connection: Connection | None = None
        self._server: PrefectEndpoint | None = None
        self._trouble = ProblemLogger(log, binding.key)
        self._writer = StatusWriter(around.kube, binding, announce=announce, clock=around.clock)

    @property
    def synced(self) -> bool:
        """Both caches hold what the cluster holds."""
        return self._cluster.is_synced(self._namespace)

    @property
    def starting(self) -> bool:
        """Not synced yet, and not for a fault of the binding's."""
        return not self.synced and not self._inspection.conditions.has_fault()

    async def run(self) -> None:
        """Serve for ever."""
        try:
            with self._cluster.subscribe(self):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._cluster.run(), name="cluster")
                    group.create_task(self._keep_status(), name="status")
                    group.create_task(self._keep_connected(), name="connections")
        finally:
            self._around.consumers.pop(self._binding.key, None)
            for part in ("jobs", "pods", "status", "connections"):
                self._around.watchdog.stop(f"{self._binding.key} {part}")

    @property
    def status(self) -> dict[str, Any]:
        """As it was last written."""
        return self._writer.written

    async def drain(self) -> None:
        """Before the end: let the writes in progress end, begin no more."""
        if self._connection:
            await self._connection.drain()

    async def report_stopped(self) -> None:
        """After the end: nobody serves the binding until an operator runs again."""
        await self._write_last_status(stopped=True)

    async def report_failed(self, error: BaseException) -> None:
        """After an end that is a defect of the operator."""
        reason, text = c.defect(error, doing="while it served the binding")
        await self._write_last_status(unserved=ConditionState("False", reason, text))

    async def _write_last_status(self, **situation: Any) -> None:
        try:
            async with asyncio.timeout(LAST_STATUS_SECONDS):
                await self._writer.write(self._status_input(**situation))
        except (OperatorError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.warning("%s: its status does not say that we stop: %s", self._binding.key, why)

    async def delete_worker(self) -> None:
        """After the end, the binding being deleted: Prefect need not list its worker any more."""
        if self._server is None:
            return  # it never was a worker
        try:
            async with asyncio.timeout(LAST_STATUS_SECONDS), self._api(self._server) as api:
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
            self._beat("connections", within=OVERDUE_SECONDS)
            async with AsyncExitStack() as stack:
                try:
                    connection = await self._connect(stack)
                except Exception as error:
                    self._inspection.check_failed(error)
                    connection = None
                if connection is None:
                    await self._inspection.wait_for_next_check()
                    continue
                reason = await self._serve(connection)
                log.info("%s: connecting anew: %s", self._binding.key, reason)

    async def _connect(self, stack: AsyncExitStack) -> Connection | None:
        """None where there is nothing to serve: no pool, and no Job of one that was."""
        server = await self._inspection.credentials()
        api = await stack.enter_async_context(self._api(server))
        pool = await self._inspection.check(api)
        pool_id = pool.id if pool else self._pool_of_jobs()
        if pool_id is None:
            return None
        await self._run_secrets.release_unneeded()
        self._server = server
        return self._make_connection(api, pool_id)

    async def _serve(self, connection: Connection) -> str:
        self._around.watchdog.stop(f"{self._binding.key} connections")
        self._connection = connection
        try:
            return await connection.serve(worker=self._worker_name)
        finally:
            self._connection = None

    def _pool_of_jobs(self) -> UUID | None:
        """The pool that the Jobs were made for, where it is gone: also the end of one that has
        ended may not be reported yet."""
        labels = (job.spec.template.labels.get(POOL_LABEL) for job in self._cluster.jobs)
        known = Counter(label for label in labels if label and is_uuid(label))
        return UUID(known.most_common(1)[0][0]) if known else None

    def _make_connection(self, api: PrefectApi, pool_id: UUID) -> Connection:
        return Connection(
            self._binding,
            self._around,
            api=api,
            owner=self._owner(api, pool_id),
            cluster=self._cluster,
            preflight=self._inspection,
        )

    def _owner(self, api: PrefectApi, pool_id: UUID) -> Owner:
        return owner_of(
            self._binding,
            cluster_id=self._cluster_id,
            server_url=api.server.url,
            pool_id=pool_id,
            credentials=self._run_secrets.credentials(api.server),
            template_environment=self._around.template_environment,
        )

    def _api(self, server: PrefectEndpoint) -> PrefectApi:
        return preflight_checks.client(self._binding.spec(), server)

    # Kubernetes

    def listed(self, namespace: str, resource: str) -> None:
        """Note that a failure is over."""
        self._trouble.resolved(f"cannot follow {resource}")

    def failed(self, namespace: str, resource: str, error: OperatorError) -> None:
        """Log the failure; a refusal becomes a condition, too: the rights are looked at."""
        self._trouble.report(f"cannot follow {resource}", error)
        if isinstance(error, KubernetesRefused):
            self._inspection.recheck()

    # Status

    async def _keep_status(self) -> None:
        while True:
            self._beat("status", within=60)
            if self._connection:
                self._connection.check_reconcilers()
            if self._binding.generation() != self._inspection.generation:
                self._inspection.recheck()
            await asyncio.sleep(await self._write_status())

    async def _write_status(self) -> float:
        """Seconds until it is to be done again."""
        try:
            await self._writer.write(self._status_input())
        except OperatorError as error:
            self._trouble.report("cannot write its status", error)
            return FAILED_STATUS_SECONDS
        self._trouble.resolved("cannot write its status")
        return STATUS_SECONDS

    def _status_input(
        self, *, stopped: bool = False, unserved: ConditionState | None = None
    ) -> StatusInput:
        spec, looked = self._binding.spec(), self._inspection
        connection = self._connection
        jobs, pods = self._cluster.jobs, self._cluster.pods
        load = (
            connection.controller.in_flight()
            if connection
            else capacity.count_in_flight((), jobs, pods)
        )
        polled = connection.poller.last if connection else None
        limit = spec.concurrency_limit
        return StatusInput(
            generation=looked.generation,
            worker_name=self._worker_name,
            server_url=PrefectEndpoint(spec.server.url or "").address,
            states=looked.conditions.states(),
            serving=ServingState(
                suspended=spec.suspend,
                pool_paused=bool(looked.pool and looked.pool.is_paused),
                full_at=limit if limit and load.slots >= limit else None,
                synced=self.synced and polled is not None and polled.at is not None,
                stopped=stopped,
                unserved=unserved,
            ),
            extra_conditions=self._extra_conditions(spec),
            server_version=looked.server_version or None,
            pool=looked.pool,
            running=len(load.running),
            pending=len(load.pending),
            queued=polled.queued if polled else 0,
            polled_at=polled.at if polled else None,
        )

    def _extra_conditions(self, spec: Spec) -> dict[str, ConditionState]:
        """What is worth knowing and no part of Ready."""
        if self._connection is None:
            self._around.consumers.pop(self._binding.key, None)
            unknown = ConditionState("Unknown", "NotChecked", "Known once the server answers.")
            return {c.EVENTS_CONNECTED: unknown, c.POOL_SHARED: unknown}
        lost, interval = self._connection.events_lost, spec.poll.interval_seconds
        own = PoolConsumer(
            binding=self._binding.key,
            worker=self._worker_name,
            pool_id=self._connection.pool_id,
            queues=spec.work_queues,
        )
        self._around.consumers[own.binding] = own
        others, workers = self._around.consumers.values(), self._inspection.workers
        return {
            c.EVENTS_CONNECTED: c.events_connected(lost, interval=interval),
            c.POOL_SHARED: pool_shared(own, others, workers),
        }

    def _beat(self, part: str, *, within: float) -> None:
        self._around.watchdog.beat(f"{self._binding.key} {part}", within=within)
