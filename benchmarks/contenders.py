"""The two programs that serve a work pool, and the environment in which both are measured.

Both use the same cluster, Prefect server and template. Each has a namespace, a pool and a
deployment of its own and runs as one process with default settings; the only other setting
restricts it to its namespace. It talks to Prefect through a proxy that records its calls.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recording_proxy import RecordingProxy
from benchmarks.statistics import OURS, STOCK
from localnode import commands
from testbed import clusters
from testbed.clusters import Cluster
from testbed.prefect_server import PrefectServer
from tests.support.binding import Binding
from tests.support.endpoint import Endpoint
from tests.support.kube import Kube, Object
from tests.support.operator import PROGRAM, Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.stock_worker import StockWorker

START_SECONDS = 90
NAMESPACE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Environment:
    """What every part of the benchmark uses; `logs` is a folder."""

    cluster: Cluster
    kube: Kube
    logs: Path


@asynccontextmanager
async def environment(logs: Path) -> AsyncIterator[Environment]:
    """Start the cluster, which stays afterwards, and apply the CRD."""
    cluster = clusters.select(os.environ).cluster
    cluster.up()
    crd = commands.run([PROGRAM, "crd"])
    cluster.kubectl.run("apply", "--server-side", "--force-conflicts", "-f-", stdin=crd)
    async with Kube(Endpoint.of_kubeconfig(cluster.kubeconfig)) as kube:
        yield Environment(cluster, kube, logs)


@dataclass(frozen=True, slots=True)
class Server:
    """A Prefect server on PostgreSQL; `api` does not pass the proxy."""

    environment: Environment
    pid: int
    api: PrefectApi
    proxy: RecordingProxy


@asynccontextmanager
async def prefect_server(environment: Environment) -> AsyncIterator[Server]:
    print("==> starting a Prefect server on PostgreSQL", flush=True)
    with PrefectServer(environment.logs / "prefect") as server:
        async with RecordingProxy(server.url) as proxy, PrefectApi(server.url) as api:
            yield Server(environment, server.pid, api, proxy)


@asynccontextmanager
async def namespace(kube: Kube) -> AsyncIterator[str]:
    """Create a namespace; delete it and wait until it is gone."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    await kube.create("namespaces", "", {"metadata": {"name": name}})
    try:
        yield name
    finally:
        await kube.delete("namespaces", "", name)
    await kube.wait("namespaces", "", name, until=lambda it: it is None, seconds=NAMESPACE_SECONDS)


@dataclass(frozen=True, slots=True)
class Pool:
    """A contender's own pool, with the namespace of its Jobs."""

    server: Server
    namespace: str
    name: str
    deployment: Object


@asynccontextmanager
async def pool(server: Server, *, template: Object, **variables: Any) -> AsyncIterator[Pool]:
    """Create a namespace, a pool with the template, and a deployment with these job variables."""
    async with namespace(server.environment.kube) as name:
        await server.api.create_pool(name, template=template)
        deployment = await server.api.create_deployment(
            flow="bench", name=name, pool=name, job_variables={"namespace": name, **variables}
        )
        yield Pool(server, name, name, deployment)


@dataclass(frozen=True, slots=True)
class Contender:
    """A running process; `serve()` returns once it serves its pool, perhaps at once."""

    pid: int
    serve: Callable[[], Awaitable[None]]


#: Runs the program inside its context.
Start = Callable[[Pool], AbstractAsyncContextManager[Contender]]


@asynccontextmanager
async def operator(pool: Pool, **env: str) -> AsyncIterator[Contender]:
    """`workpool-operator run` with one binding, and with these variables in its environment."""
    environment = pool.server.environment
    binding = Binding(environment.kube, pool.namespace, "bench")

    async def serve() -> None:
        await binding.apply(workPool={"name": pool.name}, server={"url": pool.server.proxy.url})
        await binding.ready(seconds=START_SECONDS)

    async with operator_process(environment, [pool.namespace], env=env) as process:
        try:
            yield Contender(process.pid, serve)
        finally:
            process.daemon.stop()
            await binding.remove()


def operator_log(environment: Environment) -> Path:
    """Return the log of all operator processes of the benchmark."""
    return environment.logs / "workpool-operator.log"


@asynccontextmanager
async def operator_process(
    environment: Environment,
    namespaces: Sequence[str],
    *,
    program: Sequence[str] = (str(PROGRAM),),
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Operator]:
    """`workpool-operator run` for bindings of these namespaces; it is ready."""
    process = Operator.start(
        namespaces=namespaces,
        kubeconfig=environment.cluster.kubeconfig,
        log=operator_log(environment),
        program=program,
        env={"DO_NOT_TRACK": "1", **(env or {})},
    )
    try:
        await process.ready(seconds=START_SECONDS)
        yield process
    finally:
        process.daemon.stop()


@asynccontextmanager
async def stock_worker(pool: Pool) -> AsyncIterator[Contender]:
    """`prefect worker start --type kubernetes` of prefect-kubernetes."""
    server = pool.server
    worker = StockWorker(
        pool=pool.name,
        namespace=pool.namespace,
        url=server.proxy.url,
        kubeconfig=server.environment.cluster.kubeconfig,
        folder=server.environment.logs,
    )

    async def serve() -> None:
        await poll(
            lambda: server.api.workers(pool.name),
            until=lambda workers: any(worker["status"] == "ONLINE" for worker in workers),
            seconds=START_SECONDS,
        )

    with worker.running() as process:
        yield Contender(process.pid, serve)


#: In the order in which they are measured.
CONTENDERS: dict[str, Start] = {OURS: operator, STOCK: stock_worker}
