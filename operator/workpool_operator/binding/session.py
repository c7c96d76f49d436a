"""One served pool: from the binding's spec to a running pipeline and a truthful status.

The reflectors and the status writer live as long as the session. The pipeline lives as long as one
connection (server, credentials, pool): when one of them changes, the next pipeline adopts what the
last one left. A fault of the binding's is a condition, never the end of the session.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workpool_operator.binding import conditions as c
from workpool_operator.binding import prerequisites
from workpool_operator.binding.conditions import Conditions, Situation, Verdict
from workpool_operator.binding.model import Server as ServerSpec
from workpool_operator.binding.model import Spec
from workpool_operator.binding.status import Sight, StatusWriter
from workpool_operator.dispatch.actions import Place
from workpool_operator.dispatch.pipeline import Outside, Pipeline
from workpool_operator.errors import BindingFault, OperatorError
from workpool_operator.health import Pulse
from workpool_operator.jobs import names
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.client import JOBS, PODS, KubernetesClient
from workpool_operator.kube.reflector import Reflector
from workpool_operator.kube.views import BINDING_LABEL, Job, Pod
from workpool_operator.prefect_api.client import PrefectApi, Server
from workpool_operator.prefect_api.heartbeat import Heartbeat
from workpool_operator.prefect_api.views import WorkPool

log = logging.getLogger(__name__)

CHECK_SECONDS = 8.0  # Secrets, pool and rights are looked at again: a fault shows within 15 s
FAILED_CHECK_SECONDS = 3.0
STATUS_SECONDS = 1.0
STUCK_SECONDS = 300.0  # longer than every request of one look at a run together
DRAIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Binding:
    """The object that is served; `spec` and `generation` are live."""

    namespace: str
    name: str
    spec: Callable[[], Spec]
    generation: Callable[[], int]
    status: dict[str, Any]

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all sessions of a process share."""

    kube: KubernetesClient
    tls: ssl.SSLContext
    pulse: Pulse
    reconcilers: int
    heartbeat_seconds: int


class _Reconnect(Exception):
    """Server, credentials or pool are not those of this connection any more."""


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
        self._conditions = Conditions()
        self._check_now = asyncio.Event()
        self._jobs: Cache[Job] = Cache(self._run_changed)
        self._pods: Cache[Pod] = Cache(self._run_changed)
        self._pipeline: Pipeline | None = None
        self._pool: WorkPool | None = None
        self._server_version: str | None = None
        self.worker_name = names.worker_name(
            cluster_id=cluster_id, namespace=binding.namespace, name=binding.name
        )
        self._binding_id = names.binding_id(cluster_id=cluster_id, binding=binding.key)
        self._namespace = binding.spec().jobs.namespace or binding.namespace
        self._writer = StatusWriter(
            around.kube,
            namespace=binding.namespace,
            name=binding.name,
            before=binding.status,
            announce=announce,
        )

    @property
    def synced(self) -> bool:
        """Both caches hold what the cluster holds."""
        return self._jobs.synced.is_set() and self._pods.synced.is_set()

    async def run(self) -> None:
        """Serve for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reflector(JOBS, self._jobs).run(), name="jobs")
                group.create_task(self._reflector(PODS, self._pods).run(), name="pods")
                group.create_task(self._keep_status(), name="status")
                group.create_task(self._keep_serving(), name="serve")
        finally:
            for part in ("status", "serve"):
                self._around.pulse.stop(f"{self._binding.key} {part}")

    async def drain(self) -> None:
        """Before the end: let the writes in progress end, begin no more."""
        if self._pipeline:
            await self._pipeline.drain(DRAIN_SECONDS)

    async def retire(self) -> None:
        """The binding is deleted: Prefect need not list its worker any more."""
        try:
            server = await self._credentials()
            async with asyncio.timeout(DRAIN_SECONDS), self._api(server) as api:
                await api.delete_worker(self.worker_name)
        except (OperatorError, TimeoutError) as error:
            log.warning("%s: its worker record stays in Prefect: %s", self._binding.key, error)

    # Serving

    async def _keep_serving(self) -> None:
        """Connect, serve until something asks for another connection, and again."""
        while True:
            self._beat("serve", within=60)
            try:
                server = await self._credentials()
                self._holds_until(c.CREDENTIALS_VALID)
                async with self._api(server) as api:
                    await self._look(api)
                    await self._serve(api, server)
            except BindingFault as fault:
                self._show(fault)
                await self._pause(FAILED_CHECK_SECONDS)
            except OperatorError as error:
                log.warning("%s: %s", self._binding.key, error)
                await self._pause(FAILED_CHECK_SECONDS)

    async def _serve(self, api: PrefectApi, server: Server) -> None:
        """One connection's pipeline, until something asks for another."""
        pool = self._served_pool()
        self._pipeline = pipeline = self._make_pipeline(api, pool)
        heartbeat = Heartbeat(
            api, worker=self.worker_name, every_seconds=self._around.heartbeat_seconds
        )
        try:
            async with asyncio.TaskGroup() as group:
                pipeline.start(group)
                group.create_task(heartbeat.run(), name="heartbeat")
                group.create_task(self._keep_checking(api, server, pool.id), name="checks")
        except* _Reconnect as reasons:
            log.info("%s: connecting anew: %s", self._binding.key, reasons.exceptions[0])
        finally:
            pipeline.queue.close()
            self._pipeline = None

    def _make_pipeline(self, api: PrefectApi, pool: WorkPool) -> Pipeline:
        spec = self._binding.spec()
        place = Place(
            cluster_id=self._cluster_id,
            binding=self._binding.key,
            binding_id=self._binding_id,
            worker_name=self.worker_name,
            namespace=self._namespace,
            server_url=api.server.url,
            pool_id=pool.id,
            environment=_environment(spec),
        )
        outside = Outside(
            spec=self._binding.spec,
            pool=self._served_pool,
            may_claim=self._may_claim,
            polled=self._polled,
            forbidden=self._forbidden,
        )
        return Pipeline(
            place,
            outside,
            api=api,
            kube=self._around.kube,
            jobs=self._jobs,
            pods=self._pods,
            tls=self._around.tls,
            reconcilers=self._around.reconcilers,
        )

    async def _keep_checking(self, api: PrefectApi, server: Server, pool_id: UUID) -> None:
        """Look again at what the connection stands on."""
        connected = self._binding.spec()
        while True:
            healthy = self._conditions.all_hold()
            await self._pause(CHECK_SECONDS if healthy else FAILED_CHECK_SECONDS)
            self._beat("serve", within=60)
            try:
                if _identity(self._binding.spec()) != _identity(connected):
                    raise _Reconnect("spec.server or spec.jobs changed")
                if await self._credentials() != server:
                    raise _Reconnect("the credentials changed")
                self._conditions.holds(c.SERVER_RESOLVED, "Resolved", api.server.url)
                await self._look(api)
            except BindingFault as fault:
                self._show(fault)
            except OperatorError as error:
                log.warning("%s: %s", self._binding.key, error)
            if self._pool and self._pool.id != pool_id:
                raise _Reconnect("the work pool is another one")

    # What must hold

    async def _credentials(self) -> Server:
        return await prerequisites.credentials(
            self._binding.spec(), namespace=self._binding.namespace, kube=self._around.kube
        )

    async def _look(self, api: PrefectApi) -> None:
        """Every check that needs the server or the cluster, in order."""
        spec = self._binding.spec()
        pool = await prerequisites.work_pool(api, spec)
        self._holds_until(c.SERVER_REACHABLE)
        self._conditions.holds(c.WORK_POOL_FOUND, "Found", f"Work pool {pool.name!r}.")
        self._pool = pool
        if self._server_version is None:
            self._server_version = await api.version()
        prerequisites.base_job_template(pool)
        self._conditions.holds(c.TEMPLATE_VALID, "Valid")
        await prerequisites.jobs_permitted(self._around.kube, self._namespace)
        self._conditions.holds(c.JOBS_PERMITTED, "Allowed", f"Namespace {self._namespace!r}.")

    def _holds_until(self, condition: str) -> None:
        """Everything up to `condition` holds."""
        spec = self._binding.spec()
        anonymous = spec.server.api_key is None and spec.server.auth_string is None
        reasons = {
            c.SERVER_RESOLVED: "Resolved",
            c.CREDENTIALS_VALID: "Anonymous" if anonymous else "Authenticated",
            c.SERVER_REACHABLE: "Connected",
        }
        for name, reason in reasons.items():
            self._conditions.holds(name, reason, spec.server.url or "")
            if name == condition:
                return

    def _show(self, fault: BindingFault) -> None:
        self._conditions.fails(fault.condition, fault.reason, str(fault))
        self._conditions.forget_after(fault.condition)

    def _polled(self, error: OperatorError | None) -> None:
        """A poll tells first whether the server answers; the checks then say what is wrong."""
        if error is None:
            self._beat("acquire", within=180)
            if not self._conditions.all_hold():
                self._check_now.set()
        else:
            self._check_now.set()

    def _forbidden(self, message: str) -> None:
        self._show(BindingFault(c.JOBS_PERMITTED, "JobsForbidden", message))
        self._check_now.set()

    def _may_claim(self) -> bool:
        paused = self._pool is not None and self._pool.is_paused
        return self._conditions.all_hold() and not self._binding.spec().suspend and not paused

    async def _pause(self, seconds: float) -> None:
        """Sleep, or until something asks for a check."""
        try:
            async with asyncio.timeout(seconds):
                await self._check_now.wait()
            await asyncio.sleep(0.2)
        except TimeoutError:
            pass
        self._check_now.clear()

    # Kubernetes

    def _reflector(self, resource: Any, cache: Cache[Any]) -> Reflector:
        return Reflector(
            self._around.kube,
            resource,
            namespace=self._namespace,
            selector=f"{BINDING_LABEL}={self._binding_id}",
            cache=cache,
            heard=self._reflected,
        )

    def _reflected(self, error: OperatorError | None) -> None:
        if error is not None:
            log.warning("%s: %s", self._binding.key, error)

    def _run_changed(self, run_id: str) -> None:
        if self._pipeline:
            self._pipeline.changed(run_id)

    # Status

    async def _keep_status(self) -> None:
        while True:
            self._beat("status", within=60)
            if self._pipeline and self._pipeline.queue.held_for() < STUCK_SECONDS:
                self._beat("reconcilers", within=60)
            try:
                await self._writer.write(self._sight())
            except OperatorError as error:
                log.warning("%s: its status is not written: %s", self._binding.key, error)
                await asyncio.sleep(FAILED_CHECK_SECONDS)
            await asyncio.sleep(STATUS_SECONDS)

    def _sight(self) -> Sight:
        spec, pipeline = self._binding.spec(), self._pipeline
        load = pipeline.load() if pipeline else None
        in_flight = load.in_flight if load else 0
        limit = spec.concurrency_limit
        polled = pipeline.acquire.polled if pipeline else None
        situation = Situation(
            suspended=spec.suspend,
            pool_paused=bool(self._pool and self._pool.is_paused),
            at_capacity=limit is not None and in_flight >= limit,
            synced=self.synced and polled is not None and polled.at is not None,
        )
        return Sight(
            generation=self._binding.generation(),
            worker_name=self.worker_name,
            server_url=spec.server.url or "",
            verdicts=self._conditions.verdicts(),
            situation=situation,
            server_version=self._server_version,
            pool=self._pool,
            running=len(load.running) if load else 0,
            pending=len(load.pending) if load else 0,
            queued=polled.queued if polled else 0,
            polled_at=polled.at if polled else None,
        )

    def _served_pool(self) -> WorkPool:
        assert self._pool is not None
        return self._pool

    def _api(self, server: Server) -> PrefectApi:
        return PrefectApi(server, pool=self._binding.spec().work_pool.name, tls=self._around.tls)

    def _beat(self, part: str, *, within: float) -> None:
        self._around.pulse.beat(f"{self._binding.key} {part}", within=within)


def _identity(spec: Spec) -> tuple[ServerSpec, str, str | None]:
    """What a connection and its runs' environment are made from."""
    return spec.server, spec.work_pool.type, spec.jobs.server_url


def _environment(spec: Spec) -> tuple[dict[str, Any], ...]:
    """How run pods reach the server; credentials by reference only."""
    url = spec.jobs.server_url or spec.server.url or ""
    entries: list[dict[str, Any]] = [{"name": "PREFECT_API_URL", "value": url}]
    secrets = {
        "PREFECT_API_KEY": spec.server.api_key,
        "PREFECT_API_AUTH_STRING": spec.server.auth_string,
    }
    for name, value in secrets.items():
        if value:
            ref = {"name": value.secret_key_ref.name, "key": value.secret_key_ref.key}
            entries.append({"name": name, "valueFrom": {"secretKeyRef": ref}})
    return tuple(entries)
