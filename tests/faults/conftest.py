"""An operator between two fault proxies, and the history of its runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.binding import Binding
from tests.support.deployments import QUICK, Deployer
from tests.support.fault_proxy import FaultProxy, Match
from tests.support.kube import Kube, Object
from tests.support.object_history import ObjectHistory
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi


@dataclass(frozen=True)
class Writes:
    """The writes that start a run, in their order, and the one that ends it."""

    prefect: FaultProxy
    kube: FaultProxy

    def __getitem__(self, name: str) -> Match:
        return {
            "claim": self.prefect.on("POST", r"/set_state$", body='"Pending"'),
            "job": self.kube.on("POST", r"/jobs$", query="^$"),  # a dry run has a query
            "pid": self.prefect.on("PATCH", r"/flow_runs/[^/]+$"),
            "crash": self.prefect.on("POST", r"/set_state$", body='"Crashed"'),
        }[name]


@dataclass(frozen=True)
class Past:
    """Every Job and pod that the namespace ever had."""

    jobs: ObjectHistory
    pods: ObjectHistory


@pytest.fixture
def writes(prefect_proxy: FaultProxy, kube_proxy: FaultProxy) -> Writes:
    return Writes(prefect_proxy, kube_proxy)


@pytest.fixture
async def past(kube: Kube, namespace: str) -> AsyncIterator[Past]:
    async with AsyncExitStack() as stack:
        watched = [ObjectHistory(kube, plural, namespace) for plural in ("jobs", "pods")]
        yield Past(*[await stack.enter_async_context(object_history) for object_history in watched])


@pytest.fixture
def start(
    operator: Callable[..., Awaitable[Operator]], kube_proxy: FaultProxy, tmp_path: Path
) -> Callable[[], Awaitable[Operator]]:
    """`await start()`: an operator behind the proxy of the API server; again: a restart."""
    kubeconfig = kube_proxy.write_kubeconfig(tmp_path / "proxied")

    async def start() -> Operator:
        return await operator(kubeconfig=kubeconfig)

    return start


@pytest.fixture
async def served(
    start: Callable[[], Awaitable[Operator]],
    binding: Callable[..., Awaitable[Binding]],
    prefect_proxy: FaultProxy,
) -> Operator:
    """An operator that serves the test's pool through both proxies."""
    operator = await start()
    await (await binding(server={"url": prefect_proxy.url})).ready()
    return operator


@pytest.fixture
async def deployment(deploy: Deployer) -> Object:
    """A deployment of the hello flow, whose command runs can replace by a quicker one."""
    return await deploy("hello")


@pytest.fixture
def quick(api: PrefectApi, deployment: Object) -> Callable[..., Awaitable[Object]]:
    """`await quick()`: a run whose process only reports; `await quick(seconds=5)`: and waits."""

    async def quick(*, seconds: float = 0) -> Object:
        variables = {"command": f"{QUICK} {seconds:g}"}
        return await api.create_run(deployment["id"], job_variables=variables)

    return quick
