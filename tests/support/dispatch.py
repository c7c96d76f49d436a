"""The operator's own dispatch path in this process, step by step, against the real servers.

For tests that need a precise interleaving: nothing happens here but what a test asks for. Its Jobs
are suspended, so that no pod comes of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from kubernetes_asyncio.client import Configuration
from pydantic import TypeAdapter

from tests.support.prefect import Object
from workpool_operator.binding.consent import Consent
from workpool_operator.dispatch.actions import Actions
from workpool_operator.dispatch.creation import Creation
from workpool_operator.dispatch.decide import decide
from workpool_operator.dispatch.ledger import Ledger, Record
from workpool_operator.dispatch.observed import Objects, Observed, observe
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.proposals import Proposals
from workpool_operator.dispatch.renderer import TemplateRenderer
from workpool_operator.dispatch.settings import RunSettings
from workpool_operator.dispatch.steps import Claim, Forget, Later, Nothing, Step
from workpool_operator.dispatch.submission import Submission
from workpool_operator.jobs import names
from workpool_operator.jobs.verdict import Wait
from workpool_operator.kube.cache import Cache
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
    ledger: Ledger
    jobs: Cache[Job]
    actions: Actions
    proposals: Proposals

    def record(self, run: Object) -> Record:
        return self.ledger.of(UUID(run["id"]))

    async def offer(self, run: Object) -> None:
        """As a poll does."""
        record, now = self.record(run), time.monotonic()
        found = await self.api.read_run(UUID(run["id"]))
        record.heard(found, asked_at=now, now=time.monotonic())
        record.offered_at = time.monotonic()

    async def claim(self, run: Object) -> None:
        """Claim, whatever has become of the run since it was offered."""
        await self.actions.act(UUID(run["id"]), Claim())

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
        await self.proposals.explain(UUID(run["id"]), self.record(run), wait)

    async def read(self, run: Object) -> None:
        await self.proposals.read(UUID(run["id"]), self.record(run))

    def look(self, run: Object) -> Observed:
        objects = Objects(jobs=self.jobs.of(run["id"]), gone_jobs=self.jobs.departed(run["id"]))
        return observe(UUID(run["id"]), self.record(run), objects, now=time.monotonic())

    def next(self, run: Object) -> Step:
        return decide(self.look(run), Policy(), wall=datetime.now(UTC))

    async def settle(self, run: Object) -> list[str]:
        """Take steps until there is none to take now; their names."""
        taken: list[str] = []
        while not isinstance(step := self.next(run), Nothing | Later):
            taken.append(type(step).__name__)
            assert len(taken) < MOST_STEPS, taken
            await self.actions.act(UUID(run["id"]), step)
            if isinstance(step, Forget):
                break
        return taken

    def pass_time(self, run: Object, seconds: float) -> None:
        """What is seen now has been seen for so long."""
        self.look(run)
        since = self.record(run).since
        since.update({fact: then - seconds for fact, then in since.items()})

    async def list_jobs(self) -> None:
        """As a reflector does."""
        body = await self.kube.request("GET", JOBS.path(self.place.namespace))
        self.jobs.replace(_jobs.validate_json(body).items)


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
    runlog, ledger = RunLog(api), Ledger()
    jobs: Cache[Job] = Cache(lambda _: None)
    proposals = Proposals(
        place, api=api, runlog=runlog, jobs_of=lambda run_id: jobs.ever_of(str(run_id))
    )
    submission = Submission(
        place,
        renderer=TemplateRenderer(place, api=api, pool=lambda: pool),
        creation=creation,
        proposals=proposals,
        job_cache=jobs,
        runlog=runlog,
        forbidden=lambda _: None,
    )
    actions = Actions(
        place,
        kube=kube,
        ledger=ledger,
        job_cache=jobs,
        pod_cache=Cache(lambda _: None),
        proposals=proposals,
        submission=submission,
        settings=RunSettings,
    )
    return Dispatch(place, api, kube, ledger, jobs, actions, proposals)
