"""The two programs that serve a work pool, and the environment in which both are measured.

Both use the same cluster, Prefect server and template. Each has a namespace, a pool and a
deployment of its own and runs as one process with default settings; the only other setting
restricts it to its namespace. It talks to Prefect through a proxy that records its calls.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from localnode import commands
from testbed import clusters, images
from testbed.clusters import Cluster
from testbed.prefect_server import PrefectServer
from tests.support.binding import Binding
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.operator import PROGRAM, Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.stock_worker import StockWorker

START_SECONDS = 90
NAMESPACE_SECONDS = 120
#: A pod that starts and ends without Prefect: its import would load the machine for seconds.
COMMAND = "sleep 2"


@dataclass(frozen=True, slots=True)
class Environment:
    """What both contenders share; `api` does not pass the proxy, `logs` is a folder."""

    cluster: Cluster
    kube: Kube
    api: PrefectApi
    proxy: FaultProxy
    image: str
    logs: Path


@asynccontextmanager
async def environment(logs: Path) -> AsyncIterator[Environment]:
    """Start what the contenders share; the cluster, its CRD and the run image stay afterwards."""
    cluster = clusters.select(os.environ).cluster
    cluster.up()
    image = images.run_image(cluster)
    cluster.kubectl.run("apply", "--server-side", "-f-", stdin=commands.run([PROGRAM, "crd"]))
    print("==> starting a Prefect server on PostgreSQL", flush=True)
    with (
        PrefectServer(logs / "prefect") as server,
        FaultProxy(Endpoint(server.url)) as proxy,
    ):
        async with (
            Kube(Endpoint.of_kubeconfig(cluster.kubeconfig)) as kube,
            PrefectApi(server.url) as api,
        ):
            yield Environment(cluster, kube, api, proxy, image, logs)


@dataclass(frozen=True, slots=True)
class Pool:
    """A contender's own pool, with the namespace of its Jobs."""

    environment: Environment
    namespace: str
    name: str
    deployment: Object


@asynccontextmanager
async def pool(environment: Environment) -> AsyncIterator[Pool]:
    """Create a pool with the stock template, a deployment, and a namespace, which is deleted."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    kube = environment.kube
    await kube.create("namespaces", "", {"metadata": {"name": name}})
    try:
        await environment.api.create_pool(name)
        yield Pool(environment, name, name, await _deploy(environment, name))
    finally:
        await kube.delete("namespaces", "", name)
    await kube.wait("namespaces", "", name, until=lambda it: it is None, seconds=NAMESPACE_SECONDS)


#: Serves a pool inside its context; yields the pid.
Contender = Callable[[Pool], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def operator(pool: Pool) -> AsyncIterator[int]:
    """`workpool-operator run` with one binding."""
    shared = pool.environment
    process = Operator.start(
        namespaces=[pool.namespace],
        kubeconfig=shared.cluster.kubeconfig,
        log=shared.logs / "workpool-operator.log",
        env={"DO_NOT_TRACK": "1"},
    )
    binding = Binding(shared.kube, pool.namespace, "bench")
    try:
        await process.ready(seconds=START_SECONDS)
        await binding.apply(workPool={"name": pool.name}, server={"url": shared.proxy.url})
        await binding.ready(seconds=START_SECONDS)
        yield process.pid
        await binding.delete()
        await binding.gone()
    finally:
        process.daemon.stop()
        await binding.remove()


@asynccontextmanager
async def stock_worker(pool: Pool) -> AsyncIterator[int]:
    """`prefect worker start --type kubernetes` of prefect-kubernetes."""
    shared = pool.environment
    worker = StockWorker(
        pool=pool.name,
        namespace=pool.namespace,
        url=shared.proxy.url,
        kubeconfig=shared.cluster.kubeconfig,
        folder=shared.logs,
    )
    with worker.running() as process:
        await _wait_until_online(pool)
        yield process.pid


#: In the order in which they are measured; the first is ours.
CONTENDERS: dict[str, Contender] = {"workpool-operator": operator, "stock worker": stock_worker}


async def _deploy(environment: Environment, name: str) -> Object:
    variables = {
        "image": environment.image,
        "image_pull_policy": "IfNotPresent",
        "namespace": name,
        "command": COMMAND,
    }
    return await environment.api.create_deployment(
        flow="bench", name=name, pool=name, job_variables=variables
    )


async def _wait_until_online(pool: Pool) -> None:
    await poll(
        lambda: pool.environment.api.workers(pool.name),
        until=lambda workers: any(worker["status"] == "ONLINE" for worker in workers),
        seconds=START_SECONDS,
    )
