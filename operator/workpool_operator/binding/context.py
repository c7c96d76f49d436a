"""What a session is given: its binding, and what all sessions of a process share."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from workpool_operator.api import v1alpha1
from workpool_operator.api.v1alpha1 import CrdModel, Spec
from workpool_operator.binding.conditions import ConditionState
from workpool_operator.binding.observer import Observer
from workpool_operator.binding.pool_sharing import PoolConsumers
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import LeaseNotHeld
from workpool_operator.health import Watchdog
from workpool_operator.jobs import names
from workpool_operator.jobs.overlay import JobOverlay
from workpool_operator.jobs.secrets import Credentials
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.progress import RunObserver, RunObservers
from workpool_operator.runs.settings import PollSettings, RunSettings, Timeouts
from workpool_operator.ttl_cache import TTLCache

CONCURRENT_CHECKS = 8
WAITING_SECONDS = 60.0
CACHE_SECONDS = 10.0
CRD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Binding:
    """A `WorkPoolBinding`. `spec`, `generation` and `annotations` return current values; `status`
    is the status that it had when it was read. `holds_lease` returns whether this process may act
    for it now, `deletion` the deletionPolicy by which it is being deleted, "" if it is not."""

    namespace: str
    name: str
    spec: Callable[[], Spec]
    generation: Callable[[], int]
    status: dict[str, Any]
    uid: str = ""
    holds_lease: Callable[[], bool] = lambda: True
    deletion: Callable[[], str] = lambda: ""
    annotations: Callable[[], Mapping[str, str]] = dict

    @property
    def key(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    @property
    def reference(self) -> dict[str, str]:
        """How its Events refer to it."""
        return {
            "apiVersion": v1alpha1.API_VERSION,
            "kind": v1alpha1.KIND,
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
        }

    def check_lease(self) -> None:
        """
        Raises:
            LeaseNotHeld: this process may not act for the binding now.
        """
        if not self.holds_lease():
            raise LeaseNotHeld

    @property
    def job_namespace(self) -> str:
        """The namespace of its Jobs, which cannot be changed."""
        return self.spec().jobs.namespace or self.namespace

    @property
    def allowed_namespaces(self) -> frozenset[str]:
        """The other namespaces that a run can choose for its Job."""
        return frozenset(self.spec().jobs.allowed_namespaces or ()) - {self.job_namespace}

    @property
    def job_namespaces(self) -> tuple[str, ...]:
        """Every namespace in which it creates Jobs, `job_namespace` first."""
        return (self.job_namespace, *sorted(self.allowed_namespaces))

    def field_of(self, job_namespace: str) -> str:
        """Return the path of the field that names a namespace of Jobs."""
        if job_namespace == self.job_namespace:
            return "spec.jobs.namespace"
        allowed = [*(self.spec().jobs.allowed_namespaces or ())]
        if job_namespace not in allowed:  # it was taken off the list during the check
            return "spec.jobs.allowedNamespaces"
        return f"spec.jobs.allowedNamespaces[{allowed.index(job_namespace)}]"

    @property
    def followed_namespaces(self) -> frozenset[str]:
        """Every namespace that can have its Jobs: also those that the spec no longer allows."""
        return frozenset(self.status.get("jobNamespaces") or ()).union(self.job_namespaces)

    @property
    def is_cross_namespace(self) -> bool:
        """Whether its Jobs can run in another namespace than its own."""
        return self.job_namespaces != (self.namespace,)

    def owner(
        self,
        *,
        cluster_id: str,
        server_url: str,
        pool_id: UUID,
        credentials: Credentials,
        template_environment: frozenset[str],
    ) -> Owner:
        """Return the owner of its runs, the same for a session and for a command.

        `server_url` is the server's address for the operator; run pods get `credentials` by
        reference only.
        """
        spec = self.spec()
        url = spec.jobs.server_url or server_url
        return Owner(
            cluster_id=cluster_id,
            binding=self.key,
            binding_id=names.binding_id(cluster_id=cluster_id, binding=self.key),
            worker_name=self.worker_name(cluster_id),
            worker_type=spec.work_pool.type,
            namespace=self.job_namespace,
            allowed_namespaces=self.allowed_namespaces,
            server_url=server_url,
            pool_id=pool_id,
            environment=({"name": "PREFECT_API_URL", "value": url}, *credentials.entries),
            ca=credentials.ca,
            template_environment=template_environment,
            overlay=self.overlay(),
        )

    def overlay(self) -> JobOverlay:
        """Return what the spec says now about every Job."""
        jobs = self.spec().jobs
        return JobOverlay(
            env=_documents(jobs.env),
            labels=jobs.labels or {},
            annotations=jobs.annotations or {},
            patches=_documents(jobs.patches),
        )

    def worker_name(self, cluster_id: str) -> str:
        """Return the name under which Prefect lists the binding as a worker."""
        own = names.worker_name(cluster_id=cluster_id, namespace=self.namespace, name=self.name)
        return self.spec().worker_name or own

    def run_settings(self) -> RunSettings:
        """Return what the spec says now about runs and their Jobs."""
        jobs = self.spec().jobs
        return _run_settings(
            pending_timeout=jobs.pending_timeout_seconds,
            infrastructure_retries=jobs.infrastructure_retries,
            finished_grace=jobs.finished_grace_seconds,
            job_ttl=jobs.ttl_seconds_after_finished,
            failed_job_ttl=jobs.ttl_seconds_after_failed,
            environment_secret=jobs.environment_secret,
            replicate_pod_events=jobs.replicate_pod_events,
            claims=not self.deletion(),
            cancels=self.deletion() == "Cancel",
        )

    def poll_settings(self) -> PollSettings:
        """Return what the spec says now about polls."""
        spec = self.spec()
        return PollSettings(
            interval=spec.poll.interval_seconds,
            prefetch=spec.poll.prefetch_seconds,
            concurrency_limit=spec.concurrency_limit,
            max_pending_pods=spec.jobs.max_pending_pods,
        )


def _documents(models: Sequence[CrdModel] | None) -> tuple[dict[str, Any], ...]:
    """Return the objects as Kubernetes has them."""
    return tuple(model.model_dump(by_alias=True, exclude_unset=True) for model in models or ())


@lru_cache  # each decision about a run needs them
def _run_settings(
    *,
    job_ttl: int,
    failed_job_ttl: int | None,
    environment_secret: bool,
    replicate_pod_events: bool,
    claims: bool,
    cancels: bool,
    **timeouts: int,
) -> RunSettings:
    return RunSettings(
        Timeouts(**timeouts),
        job_ttl=job_ttl,
        failed_job_ttl=failed_job_ttl,
        environment_secret=environment_secret,
        replicate_pod_events=replicate_pod_events,
        claims=claims,
        cancels=cancels,
    )


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """What all sessions of a process share.

    `identity`: the name of this process in the Leases that it holds. `template_environment`: the
    names of the operator's environment variables that templates may read. `observer` handles what
    happens in the process, `tracing` what happens to runs.
    `consumers`: which queues of which pool each binding serves.
    `check_slots` limits the concurrent checks of one server, by its URL: if a hundred bindings
    start together, a small server would answer none of them in time. `versions`: the servers'
    versions, "" if unknown. `workers`: the names of a pool's online workers, None if unknown.
    `crd_outdated`: the condition, which is the same for all.
    """

    kube: KubernetesClient
    watchdog: Watchdog
    reconcilers: int
    heartbeat_seconds: int
    identity: str = ""
    template_environment: frozenset[str] = frozenset()
    clock: Clock = SYSTEM_CLOCK
    observer: Observer = field(default_factory=Observer)
    tracing: Observer | None = None
    consumers: PoolConsumers = field(default_factory=PoolConsumers)
    check_slots: dict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(CONCURRENT_CHECKS))
    )
    versions: TTLCache[str] = field(default_factory=lambda: TTLCache(seconds=CACHE_SECONDS))
    workers: TTLCache[Sequence[str] | None] = field(
        default_factory=lambda: TTLCache(seconds=CACHE_SECONDS)
    )
    crd_outdated: TTLCache[ConditionState] = field(
        default_factory=lambda: TTLCache(seconds=CRD_SECONDS)
    )

    def runs_of(self, binding: Binding) -> RunObserver | None:
        """Return the observer of the binding's runs, None if there is none."""
        observers = filter(None, (self.observer, self.tracing))
        found = [each.runs_of(binding.namespace, binding.name) for each in observers]
        several = [each for each in found if each]
        return RunObservers(*several) if len(several) > 1 else next(iter(several), None)

    @asynccontextmanager
    async def check_slot(self, url: str, *, waiting: Callable[[], None]) -> AsyncIterator[None]:
        """Hold one of the slots for checks of this server; `waiting()` is called until then: a
        queue in front of a server that does not answer is no stuck loop."""
        slots = self.check_slots[url]
        turn = asyncio.ensure_future(slots.acquire())
        try:
            while not turn.done():
                waiting()
                await asyncio.wait([turn], timeout=WAITING_SECONDS)
            yield
        finally:
            if turn.done() and not turn.cancelled():
                slots.release()
            turn.cancel()
