"""One process serves a hundred bindings: all become Ready, each claims its run, and the process
takes little CPU time and memory.

Their Jobs are suspended: this is about the operator, not about pods. Measured alone on two cores:
all are Ready after 13 s, for which the operator takes 6 s of a core.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.binding import Binding
from tests.support.polling import poll
from tests.support.prefect import suspended_template
from workpool_operator.kube.models import BINDING_ANNOTATION

pytestmark = pytest.mark.alone

BINDINGS, POOLS = 100, 4
READY_SECONDS = 60  # from the last binding's creation
CPU_SECONDS = 20  # from the start of the process until all are Ready
MEMORY_MIB = 400  # resident, with all of them and their runs
TICKS = os.sysconf("SC_CLK_TCK")
AT_ONCE = 5  # requests of the test


async def test_a_hundred_bindings_in_one_process_are_ready_and_each_serves_its_run(
    api, kube, namespace, pool, prefect_server, operator
):
    pools = [f"{pool}-{number}" for number in range(POOLS)]
    bindings = [Binding(kube, namespace, f"b{number:03}") for number in range(BINDINGS)]
    pool_of = {each.name: pools[number % POOLS] for number, each in enumerate(bindings)}
    await gather(api.create_pool(name, template=suspended_template()) for name in pools)
    try:
        await gather(
            api.one("POST", f"/work_pools/{pool_of[each.name]}/queues", {"name": each.name})
            for each in bindings
        )
        process = await operator(fresh=True)
        await gather(
            each.apply(
                workPool={"name": pool_of[each.name]},
                workQueues=[each.name],
                server={"url": prefect_server.url},
                concurrencyLimit=1,
            )
            for each in bindings
        )
        await poll(
            lambda: ready(kube, namespace),
            until=lambda it: it == BINDINGS,
            seconds=READY_SECONDS,
        )
        assert cpu_seconds(process.pid) < CPU_SECONDS
        deployments = {
            name: await api.create_deployment(flow="hello", name=name, pool=name) for name in pools
        }
        runs = await gather(
            api.create_run(deployments[pool_of[each.name]]["id"], work_queue_name=each.name)
            for each in bindings
        )
        jobs = await poll(
            lambda: kube.list("jobs", namespace),
            until=lambda found: len(found) == BINDINGS,
            seconds=120,
        )
        served = Counter(job["metadata"]["annotations"][BINDING_ANNOTATION] for job in jobs)
        assert served == {f"{namespace}/{each.name}": 1 for each in bindings}

        async def recorded() -> int:
            chosen = {"flow_runs": {"id": {"any_": [run["id"] for run in runs]}}}
            found = await api.many("POST", "/flow_runs/filter", chosen)
            return sum(bool(run["infrastructure_pid"]) for run in found)

        await poll(recorded, until=lambda count: count == BINDINGS, seconds=60)
        assert resident_mib(process.pid) < MEMORY_MIB
        assert await process.probe("healthz") == 200
        assert await ready(kube, namespace) == BINDINGS
        assert "Traceback" not in process.log
    finally:
        await gather(each.delete() for each in bindings)
        await poll(
            lambda: kube.list("workpoolbindings", namespace), until=lambda it: not it, seconds=60
        )
        await gather(api.delete_pool(name) for name in pools)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    """Return the memory of the process that is in RAM now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def ready(kube, namespace: str) -> int:
    """How many bindings are."""
    found = await kube.list("workpoolbindings", namespace)
    return sum(
        condition["type"] == "Ready" and condition["status"] == "True"
        for each in found
        for condition in each.get("status", {}).get("conditions", [])
    )


async def gather(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """All of them, a few at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(call: Awaitable[Any]) -> Any:
        async with slots:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))
