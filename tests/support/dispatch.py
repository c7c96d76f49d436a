"""The operator's own dispatch path in this process, step by step, against the real servers.

For tests that need a precise interleaving: nothing happens here but what a test asks for. Its Jobs
are suspended, so that no pod comes of them.
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

from tests.support.prefect import Object
from workpool_operator.binding.consent import Consent
from workpool_operator.dispatch.creation import Creation
from workpool_operator.dispatch.decide import decide
from workpool_operator.dispatch.executor import Executor
from workpool_operator.dispatch.job_creator import JobCreator
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.renderer import TemplateRenderer
from workpool_operator.dispatch.settings import RunSettings
from workpool_operator.dispatch.snapshot import Snapshot, take_snapshot
from workpool_operator.dispatch.state_proposals import StateProposals
from workpool_operator.dispatch.steps import Claim, CreateJob, Forget, Later, Nothing, Step
from workpool_operator.dispatch.store import RunRecord, RunStore
from workpool_operator.dispatch.workqueue import WorkQueue
from workpool_operator.jobs import names
from workpool_operator.jobs.verdict import Wait
from workpool_operator.kube.cache import Cache, RunObjects
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.views import Job, Page
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.runlog import RunLog
from workpool_operator.prefect_api.server import Server
from workpool_operator.prefect_api.views import WorkPool

MOST_STEPS = 20
_jobs = TypeAdapter(Page[Job])


@dataclass(frozen=True)
class Dispatch:
    """One operator's memory; another Dispatch on the same pool is the operator after a restart."""

    place: Place
    api: PrefectApi
    kube: KubernetesClient
    store: RunStore
    jobs: Cache[Job]
    executor: Executor
    proposals: StateProposals

    def record(self, run: Object) -> RunRecord:
        return self.store.of(UUID(run["id"]))

    def know(self, run: Object, **facts: Any) -> None:
        """Have the run's record say so."""
        self.store.put(UUID(run["id"]), replace(self.record(run), **facts))

    async def offer(self, run: Object) -> None:
        """As a poll does."""
        run_id, now = UUID(run["id"]), time.monotonic()
        self.store.apply(run_id, await self.api.read_run(run_id), asked_at=now)
        self.know(run, offered_at=time.monotonic())

    async def claim(self, run: Object) -> None:
        """Claim, whatever has become of the run since it was offered."""
        await self.executor.execute(UUID(run["id"]), Claim())

    async def create_job(self, run: Object) -> None:
        """Create the Job of the run's claim."""
        claimed = self.record(run).claimed_run
        assert claimed is not None
        await self.executor.execute(UUID(run["id"]), CreateJob(claimed))

    async def claimed(self, run: Object) -> UUID:
        """The id of the run's claim, made now."""
        await self.offer(run)
        await self.claim(run)
        return self.claim_id(run)

    def claim_id(self, run: Object) -> UUID:
        claim = self.record(run).claim
        assert claim is not None
        return claim.id

    async def explain(self, run: Object, wait: Wait) -> None:
        claim = self.record(run).claim
        assert claim is not None
        await self.proposals.explain(UUID(run["id"]), wait, claim)

    async def read(self, run: Object) -> None:
        await self.proposals.read(UUID(run["id"]))

    def look(self, run: Object) -> Snapshot:
        run_id = UUID(run["id"])
        objects = RunObjects(jobs=self.jobs.of(run["id"]), gone_jobs=self.jobs.departed(run["id"]))
        seen = take_snapshot(run_id, self.record(run), objects, now=time.monotonic())
        self.store.put(run_id, seen.record)
        return seen

    def next(self, run: Object) -> Step:
        return decide(self.look(run), Policy(), wall=datetime.now(UTC))

    async def settle(self, run: Object) -> list[str]:
        """Take steps until there is none to take now; their names."""
        taken: list[str] = []
        while not isinstance(step := self.next(run), Nothing | Later):
            taken.append(type(step).__name__)
            assert len(taken) < MOST_STEPS, taken
            await self.executor.execute(UUID(run["id"]), step)
            if isinstance(step, Forget):
                break
        return taken

    def pass_time(self, run: Object, seconds: float) -> None:
        """What is seen now has been seen for so long."""
        since = self.look(run).record.since
        self.know(run, since={fact: then - seconds for fact, then in since.items()})

    async def list_jobs(self) -> None:
        """As a reflector does."""
        body = await self.kube.request("GET", JOBS.path(self.place.namespace))
        self.jobs.replace(_jobs.validate_json(body).items, namespace=self.place.namespace)


@asynccontextmanager
async def dispatch(
    *,
    server: Server,
    kube_url: str,
    pool: Object,
    namespace: str,
    binding: str = "pool",
    environment_secret: bool = False,
    bound_in: str = "",
) -> AsyncIterator[Dispatch]:
    """On a pool and in a namespace, for a binding in the same one or in `bound_in`; `kube_url` is a
    proxy's, which adds the credentials."""
    place = Place(
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
        consent = Consent(kube, binding_namespace=own, job_namespace=namespace)
        creation = Creation(
            kube,
            namespace=namespace,
            environment_secret=lambda: environment_secret,
            consent=consent.check,
        )
        yield _compose(place, api, kube, WorkPool.of(pool), creation)


def _compose(
    place: Place, api: PrefectApi, kube: KubernetesClient, pool: WorkPool, creation: Creation
) -> Dispatch:
    runlog = RunLog(api)
    jobs: Cache[Job] = Cache(lambda _: None)
    store = RunStore(lambda run_id: place.transition_ids(run_id, jobs.ever_of(str(run_id))))
    proposals = StateProposals(place, api=api, runlog=runlog, store=store)
    job_creator = JobCreator(
        place,
        renderer=TemplateRenderer(place, api=api, pool=lambda: pool),
        creation=creation,
        store=store,
        job_cache=jobs,
        runlog=runlog,
        forbidden=lambda _: None,
    )
    executor = Executor(
        place,
        kube=kube,
        queue=WorkQueue(),
        store=store,
        job_cache=jobs,
        pod_cache=Cache(lambda _: None),
        proposals=proposals,
        job_creator=job_creator,
        settings=RunSettings,
        listener=_NoPolls(),
    )
    return Dispatch(place, api, kube, store, jobs, executor, proposals)


class _NoPolls:
    """A listener that polls for no other run."""

    def capacity_freed(self) -> None: ...

    def offer_expired(self) -> None: ...
