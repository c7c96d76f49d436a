"""A binding starts its runs as fast as ever, whatever happens to another one of its process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any

import pytest

from tests.support.binding import Binding
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.object_history import ObjectHistory
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi, stock_template

RUNS = 10
QUEUED = 150  # of the other binding: they are being claimed while it is measured
MORE_SECONDS = 0.5  # the most that the median may be above that of the binding alone: without
# isolation a run waits until a request of the other binding times out, after 15 s
JOBS = r"/jobs$"
ASKING = {"labels": {"asked": "{{ prefect.variables.absent }}"}}  # each render asks the server

Measure = Callable[[], Awaitable[list[float]]]


@pytest.fixture
async def pools(api: PrefectApi, pool: str) -> Any:
    """Two pools whose Jobs are suspended."""
    template = stock_template()
    template["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    names = (f"{pool}-idle", f"{pool}-busy")
    for name in names:
        await api.create_pool(name, template=template)
    yield names
    for name in names:
        await api.delete_pool(name)


@pytest.fixture
async def neighbours(
    kube: Kube,
    namespace: str,
    pools: tuple[str, str],
    api: PrefectApi,
    operator: Callable[..., Awaitable[Operator]],
    prefect_proxy: FaultProxy,
    kube_proxy: FaultProxy,
    tmp_path: Any,
) -> AsyncIterator[tuple[Measure, Object]]:
    """Two served bindings; how to measure the idle one, and a deployment of the busy one."""
    await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    idle, busy = Binding(kube, namespace, "idle"), Binding(kube, namespace, "busy")
    await idle.apply(workPool={"name": pools[0]}, server={"url": api.url})
    await busy.apply(workPool={"name": pools[1]}, server={"url": prefect_proxy.url})
    await idle.ready()
    await busy.ready()
    deployment, other = [
        await api.create_deployment(flow="hello", name=name, pool=name, job_variables=variables)
        for name, variables in zip(pools, ({}, ASKING), strict=True)
    ]

    async def measure() -> list[float]:
        """Return the seconds from the creation of each of some runs to its Job."""
        async with ObjectHistory(kube, "jobs", namespace) as jobs:
            found = []
            for _ in range(RUNS):
                began = time.monotonic()
                run = await api.create_run(deployment["id"])
                while not any(made_for(job, run) for job in jobs.seen):
                    await asyncio.sleep(0.01)
                    assert time.monotonic() - began < 30
                found.append(time.monotonic() - began)
            return found

    yield measure, other
    for served in (idle, busy):
        await served.delete()
    for served in (idle, busy):
        await served.gone(seconds=60)


def made_for(job: Object, run: Object) -> bool:
    return bool(job["metadata"]["labels"].get("workpool-operator.dev/flow-run-id") == run["id"])


def check(seconds: list[float], *, alone: list[float]) -> None:
    assert median(seconds) < 2 * median(alone) + MORE_SECONDS, (alone, seconds)


async def create_runs(api: PrefectApi, deployment: Object, count: int) -> None:
    for _ in range(count // 10):
        await asyncio.gather(*(api.create_run(deployment["id"]) for _ in range(10)))


async def test_runs_start_as_fast_while_the_server_of_another_binding_does_not_answer(
    api: PrefectApi, neighbours: tuple[Measure, Object], prefect_proxy: FaultProxy
) -> None:
    measure, other = neighbours
    alone = await measure()
    rule = prefect_proxy.on("GET", r"/variables/name/").hold()
    await create_runs(api, other, 20)
    await rule.wait()
    everything = prefect_proxy.on("*", "").hold()
    await everything.wait()
    check(await measure(), alone=alone)


async def test_runs_start_as_fast_while_the_jobs_of_another_binding_are_refused(
    api: PrefectApi, neighbours: tuple[Measure, Object], kube_proxy: FaultProxy, namespace: str
) -> None:
    measure, other = neighbours
    alone = await measure()
    refusal = {"kind": "Status", "code": 422, "reason": "Invalid", "message": "no"}
    rule = kube_proxy.on("POST", JOBS, query="^$", body=f"{namespace}/busy")
    refused = rule.answer(422, json=refusal)
    await create_runs(api, other, QUEUED)
    await refused.wait()
    check(await measure(), alone=alone)


async def test_runs_start_as_fast_while_another_binding_claims_its_long_queue(
    api: PrefectApi, neighbours: tuple[Measure, Object], kube: Kube, namespace: str
) -> None:
    measure, other = neighbours
    alone = await measure()
    await create_runs(api, other, QUEUED)
    await poll(lambda: kube.list("jobs", namespace), until=bool)
    check(await measure(), alone=alone)
