"""A binding starts its runs as fast as ever, whatever happens to the others of its process.

`python -m benchmarks fairness` measures the same with thousands of runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from statistics import median
from typing import Any

import pytest

from benchmarks.job_watch import watch_jobs
from tests.support.binding import Binding
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import GUARDED_AUTH, PrefectApi, suspended_template
from workpool_operator.kube.models import BINDING_ANNOTATION

pytestmark = pytest.mark.alone

RUNS = 8
QUEUED = 60  # of the busy binding: they are being claimed while the idle one is measured
SILENT = 10  # more than a binding renders at a time
MORE_SECONDS = 0.5  # the most that the median may be above twice that of the binding alone; if
# bindings waited for each other, a run would wait until a request times out, after 15 s
KINDS = ("idle", "busy", "silent", "refused")
AUTH = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "auth"}}
NO_JOBS = {"metadata": {"name": "no-jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
ASKING = {"labels": {"asked": "{{ prefect.variables.absent }}"}}  # each render asks the server


@pytest.fixture
def apis(api: PrefectApi, auth_api: PrefectApi) -> dict[str, PrefectApi]:
    """The server of each binding, as the test calls it. The busy one's is another than the idle
    one's, because a server that works off a long queue answers everybody late."""
    return {kind: auth_api if kind == "busy" else api for kind in KINDS}


@pytest.fixture
async def deployments(
    apis: dict[str, PrefectApi], namespace: str
) -> AsyncIterator[dict[str, Object]]:
    """One for each binding, in a pool of its own whose Jobs are suspended."""
    made = {}
    for kind, api in apis.items():
        name = f"{namespace}-{kind}"
        variables = ASKING if kind == "silent" else {}
        await api.create_pool(name, template=suspended_template())
        made[kind] = await api.create_deployment(
            flow="hello", name=name, pool=name, job_variables=variables
        )
    yield made
    for kind, api in apis.items():
        await api.delete_pool(f"{namespace}-{kind}")


@pytest.fixture
async def served(
    kube: Kube,
    namespace: str,
    other_namespace: str,
    deployments: dict[str, Object],
    operator: Callable[..., Awaitable[Operator]],
    api: PrefectApi,
    auth_server: str,
    prefect_proxy: FaultProxy,
) -> AsyncIterator[None]:
    """All four bindings are Ready in one process."""
    await kube.create("secrets", namespace, {**AUTH, "stringData": {"auth": GUARDED_AUTH}})
    await kube.create("resourcequotas", other_namespace, NO_JOBS)
    await operator(also_in=other_namespace)
    auth = {"secretKeyRef": {"name": "auth", "key": "auth"}}
    servers: dict[str, Any] = {
        "busy": {"url": auth_server, "authString": auth},
        "silent": {"url": prefect_proxy.url},
    }
    bindings = [Binding(kube, namespace, kind) for kind in KINDS]
    for each in bindings:
        await each.apply(
            workPool={"name": f"{namespace}-{each.name}"},
            server=servers.get(each.name, {"url": api.url}),
            jobs={"namespace": other_namespace} if each.name == "refused" else {},
        )
    for each in bindings:
        await each.ready()
    yield
    for each in bindings:
        await each.remove()


def is_of(job: Object, binding: str) -> bool:
    return bool(job["metadata"]["annotations"][BINDING_ANNOTATION] == binding)


async def test_an_idle_binding_serves_its_runs_at_once_next_to_a_queue_a_silent_server_and_a_quota(
    served: None,
    apis: dict[str, PrefectApi],
    deployments: dict[str, Object],
    kube: Kube,
    namespace: str,
    prefect_proxy: FaultProxy,
) -> None:
    async def create_runs(kind: str, count: int) -> None:
        for _ in range(count // 10):
            calls = (apis[kind].create_run(deployments[kind]["id"]) for _ in range(10))
            await asyncio.gather(*calls)

    async def measure() -> list[float]:
        """Return the seconds from the creation of each of some runs to its Job."""
        found = []
        async with watch_jobs(kube, namespace) as created:
            for _ in range(RUNS):
                run = await apis["idle"].create_run(deployments["idle"]["id"])
                seen = await created.first(run["id"])
                found.append(seen - datetime.fromisoformat(run["created"]).timestamp())
        return found

    alone = await measure()
    rendering = prefect_proxy.on("GET", r"/variables/name/").hold()
    await create_runs("silent", SILENT)
    await rendering.wait()
    prefect_proxy.on("*", "").hold()
    await create_runs("refused", 10)
    await create_runs("busy", QUEUED)
    await poll(
        lambda: kube.list("jobs", namespace),
        until=lambda jobs: any(is_of(job, f"{namespace}/busy") for job in jobs),
    )
    among_others = await measure()
    assert median(among_others) < 2 * median(alone) + MORE_SECONDS, (alone, among_others)
