"""Drives a RunController in the test's process, action by action, against real servers.

For tests that need a precise interleaving: only what the test calls happens. Its Jobs are
suspended, so that they have no pods.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kubernetes_asyncio.client import Configuration
from pydantic import TypeAdapter

from tests.support.cluster_cache import synced_cluster
from tests.support.prefect import Object
from workpool_operator.binding.consent import Consent
from workpool_operator.jobs import names
from workpool_operator.jobs.diagnosis import WaitReason
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.cluster import Cache
from workpool_operator.kube.models import Job, Page, RunObjects
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.models import WorkPool
from workpool_operator.runs.actions import (
    Action,
    ClaimRun,
    CreateJob,
    ForgetRun,
    NoAction,
    RequeueAfter,
)
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.decide import decide
from workpool_operator.runs.executor import Executor
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.renderer import TemplateRenderer
from workpool_operator.runs.settings import RunSettings, Timeouts
from workpool_operator.runs.snapshot import Snapshot, take_snapshot
from workpool_operator.runs.state_proposals import StateProposals
from workpool_operator.runs.store import RunRecord, RunStore

MOST_STEPS = 20
STATE_AGE = 60  # longer than a step takes on a slow machine
_jobs = TypeAdapter(Page[Job])


@dataclass(frozen=True)
class StepwiseController:
    """One process of the operator; another StepwiseController on the same pool is the
    operator after a restart."""

    owner: Owner
    api: PrefectApi
    kube: KubernetesClient
    controller: RunController

    @property
    def store(self) -> RunStore:
        return self.controller.store

    @property
    def jobs(self) -> Cache[Job]:
        return self.controller._cluster.jobs

    @property
    def executor(self) -> Executor:
        return self.controller._executor

    @property
    def proposals(self) -> StateProposals:
        return self.controller.proposals

    def record(self, run: Object) -> RunRecord:
        return self.store.of(UUID(run["id"]))

    def know(self, run: Object, **facts: Any) -> None:
        """Set fields of the run's record."""
        self.store.put(UUID(run["id"]), replace(self.record(run), **facts))

    async def offer(self, run: Object) -> None:
        """Offer the run, as a poll does."""
        read_at = time.monotonic()
        found = await self.api.read_run(UUID(run["id"]))
        assert found is not None
        self.controller.offer(found, read_at=read_at)

    async def claim(self, run: Object) -> None:
        """Propose the claim, whatever the run's state is by now."""
        await self.executor.execute(UUID(run["id"]), ClaimRun())

    async def create_job(self, run: Object) -> None:
        """Create the Job of the run's claim."""
        claimed = self.record(run).claimed_run
        assert claimed is not None
        await self.executor.execute(UUID(run["id"]), CreateJob(claimed))

    async def claimed(self, run: Object) -> UUID:
        """Offer and claim the run; return the id of the claim."""
        await self.offer(run)
        await self.claim(run)
        return self.claim_id(run)

    def claim_id(self, run: Object) -> UUID:
        claim = self.record(run).claim
        assert claim is not None
        return claim.id

    async def explain(self, run: Object, wait: WaitReason) -> None:
        claim = self.record(run).claim
        assert claim is not None
        await self.proposals.report_waiting(UUID(run["id"]), wait, claim)

    async def read(self, run: Object) -> None:
        await self.proposals.read(UUID(run["id"]))

    def snapshot(self, run: Object) -> Snapshot:
        run_id = UUID(run["id"])
        objects = RunObjects(
            jobs=self.jobs.by_run(run["id"]), deleted_jobs=self.jobs.tombstones(run["id"])
        )
        seen = take_snapshot(run_id, self.record(run), objects, now=time.monotonic())
        self.store.put(run_id, seen.record)
        return seen

    def next(self, run: Object) -> Action:
        timeouts = Timeouts(state_age=STATE_AGE)
        return decide(self.snapshot(run), timeouts, wall=datetime.now(UTC))

    async def settle(self, run: Object) -> list[str]:
        """Execute actions until nothing is left to do now; return their names."""
        taken: list[str] = []
        while not isinstance(step := self.next(run), NoAction | RequeueAfter):
            taken.append(type(step).__name__)
            assert len(taken) < MOST_STEPS, taken
            await self.executor.execute(UUID(run["id"]), step)
            if isinstance(step, ForgetRun):
                break
        return taken

    def pass_time(self, run: Object, seconds: float) -> None:
        """Make every present fact of the run older by so many seconds."""
        since = self.snapshot(run).record.since
        self.know(run, since={fact: then - seconds for fact, then in since.items()})

    async def list_jobs(self) -> None:
        """List the Jobs, as a reflector does."""
        body = await self.kube.request("GET", JOBS.path(self.owner.namespace))
        found = {job.metadata.uid: job for job in _jobs.validate_json(body).items}
        for job in found.values():
            self.jobs.put(job)
        for uid in self.jobs.uids(self.owner.namespace) - found.keys():
            self.jobs.remove(uid)


@asynccontextmanager
async def stepwise_controller(
    *,
    server: PrefectEndpoint,
    kube_url: str,
    pool: Object,
    namespace: str,
    binding: str = "pool",
    environment_secret: bool = False,
    bound_in: str = "",
) -> AsyncIterator[StepwiseController]:
    """Yield a controller of the pool whose Jobs are in the namespace. Its binding is there or in
    `bound_in`. `kube_url` is that of a proxy, which adds the credentials."""
    owner = Owner(
        cluster_id=namespace,
        binding=f"{namespace}/{binding}",
        binding_id=names.binding_id(cluster_id=namespace, binding=binding),
        worker_name="in-process",
        namespace=namespace,
        server_url=server.url,
        pool_id=UUID(pool["id"]),
        environment=(),
    )
    async with AsyncExitStack() as stack:
        client = PrefectApi(server, pool=pool["name"])
        api = await stack.enter_async_context(client)
        kube = KubernetesClient(Configuration(host=kube_url))
        await stack.enter_async_context(kube)
        own = bound_in or namespace
        consent = Consent(kube, binding_namespace=own)
        controller = RunController(
            owner,
            prefect=api,
            kube=kube,
            cluster=synced_cluster(namespace),
            renderer=TemplateRenderer(owner, api=api, pool=lambda: WorkPool.of(pool)),
            settings=lambda: RunSettings(environment_secret=environment_secret),
            listener=Listener(),
            workers=0,
            consent=consent.check,
        )
        yield StepwiseController(owner, api, kube, controller)
