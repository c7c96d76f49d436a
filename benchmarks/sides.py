"""The two programs that serve a work pool, each a process of its own with its default settings.

Promises: entered, the side serves its pool and talks to Prefect through the proxy alone; left, its
process has ended. Only one setting is no default: each is restricted to its namespace.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from benchmarks.ground import Ground
from testbed.daemon import Daemon
from testbed.environments import PEER
from tests.support.binding import Binding
from tests.support.operator import Operator
from tests.support.polling import poll

START_SECONDS = 90

Side = Callable[[Ground], AbstractAsyncContextManager[Daemon]]


@asynccontextmanager
async def operator(ground: Ground) -> AsyncIterator[Daemon]:
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
        yield process.daemon
        await binding.delete()
        await binding.gone()
    finally:
        process.daemon.stop()
        await binding.remove()


@asynccontextmanager
async def stock_worker(ground: Ground) -> AsyncIterator[Daemon]:
    """`prefect worker start --type kubernetes` of prefect-kubernetes."""
    program = PEER.python.with_name("prefect")
    worker = Daemon(
        "the stock worker",
        [str(program), *("worker", "start", "--type", "kubernetes", "--pool", ground.pool)],
        log=ground.site.logs / "stock-worker.log",
        env=_environment(ground),
    )
    worker.start()
    try:
        await _online(ground)
        yield worker
    finally:
        worker.stop()


#: In the order in which they are measured.
SIDES: dict[str, Side] = {"workpool-operator": operator, "stock worker": stock_worker}


def _environment(ground: Ground) -> dict[str, str]:
    """Without the user's Prefect settings; its observer keeps to its own namespace."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
    }
    return inherited | {
        "DO_NOT_TRACK": "1",
        "KUBECONFIG": str(ground.site.cluster.kubeconfig),
        "PREFECT_API_URL": ground.site.proxy.url,
        "PREFECT_HOME": str(ground.site.logs / "stock-worker-home"),
        "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES": ground.namespace,
    }


async def _online(ground: Ground) -> None:
    await poll(
        lambda: ground.site.api.workers(ground.pool),
        until=lambda workers: any(worker["status"] == "ONLINE" for worker in workers),
        seconds=START_SECONDS,
    )
