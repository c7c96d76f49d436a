"""The two programs that serve a work pool, each a process of its own with its default settings.

Promises: entered, the side serves its pool and talks to Prefect through the proxy alone; left, its
process has ended. Only one setting is no default: each is restricted to its namespace.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from benchmarks.ground import Ground
from tests.support.binding import Binding
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.stock_worker import StockWorker

START_SECONDS = 90

#: Yields the pid.
Side = Callable[[Ground], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def operator(ground: Ground) -> AsyncIterator[int]:
    """`workpool-operator run` with one binding."""
    site = ground.site
    process = Operator.start(
        namespaces=[ground.namespace],
        kubeconfig=site.cluster.kubeconfig,
        log=site.logs / "workpool-operator.log",
        env={"DO_NOT_TRACK": "1"},
    )
    binding = Binding(site.kube, ground.namespace, "bench")
    try:
        await process.ready(seconds=START_SECONDS)
        await binding.apply(workPool={"name": ground.pool}, server={"url": site.proxy.url})
        await binding.ready(seconds=START_SECONDS)
        yield process.pid
        await binding.delete()
        await binding.gone()
    finally:
        process.daemon.stop()
        await binding.remove()


@asynccontextmanager
async def stock_worker(ground: Ground) -> AsyncIterator[int]:
    """`prefect worker start --type kubernetes` of prefect-kubernetes."""
    site = ground.site
    worker = StockWorker(
        pool=ground.pool,
        namespace=ground.namespace,
        url=site.proxy.url,
        kubeconfig=site.cluster.kubeconfig,
        folder=site.logs,
    )
    with worker.running() as process:
        await _online(ground)
        yield process.pid


#: In the order in which they are measured.
SIDES: dict[str, Side] = {"workpool-operator": operator, "stock worker": stock_worker}


async def _online(ground: Ground) -> None:
    await poll(
        lambda: ground.site.api.workers(ground.pool),
        until=lambda workers: any(worker["status"] == "ONLINE" for worker in workers),
        seconds=START_SECONDS,
    )
