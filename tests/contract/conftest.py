"""Fixtures that run the operator's controller and the worker type in the test's own process.

Their Jobs are suspended: a test controls each step, and there are no pods.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.prefect import Object, PrefectApi, stock_template
from tests.support.stepwise_controller import StepwiseController, stepwise_controller
from tests.support.suspended_pool import SuspendedPool
from tests.support.worker_type import WorkerHarness
from workpool_operator.prefect_api.endpoint import PrefectEndpoint


@pytest.fixture
async def suspended_pool(api: PrefectApi) -> AsyncIterator[Object]:
    """Create a pool whose Jobs are suspended, so that they have no pods."""
    template = stock_template()
    template["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    made = await api.create_pool(f"quiet-{uuid.uuid4().hex[:8]}", template=template)
    yield made
    await api.delete_pool(made["name"])


@pytest.fixture
async def start(
    prefect_proxy: FaultProxy, kube_proxy: FaultProxy, namespace: str, suspended_pool: Object
) -> AsyncIterator[Callable[..., Awaitable[StepwiseController]]]:
    """`await start()` returns a controller with an empty store; a second call is a restart."""
    async with AsyncExitStack() as stack:

        async def begin(**options: Any) -> StepwiseController:
            context = stepwise_controller(
                server=PrefectEndpoint(prefect_proxy.url),
                kube_url=kube_proxy.url,
                pool=suspended_pool,
                namespace=namespace,
                **options,
            )
            return await stack.enter_async_context(context)

        yield begin


@pytest.fixture
async def suspended_run(api: PrefectApi, suspended_pool: Object) -> Object:
    """A run of that pool, due now."""
    return await make_run(api, suspended_pool)


async def make_run(
    api: PrefectApi, pool: Object, *, job_variables: Object | None = None, **fields: Any
) -> Object:
    deployment = await api.create_deployment(
        flow="hello",
        name=uuid.uuid4().hex[:8],
        pool=pool["name"],
        job_variables=job_variables or {},
    )
    return await api.create_run(deployment["id"], **fields)


@pytest.fixture
async def worker_pool(api: PrefectApi, namespace: str) -> AsyncIterator[SuspendedPool]:
    """A pool of the worker type."""
    pool = await SuspendedPool.create(api, namespace)
    yield pool
    await api.delete_pool(pool.name)


@pytest.fixture
def harness(
    worker_pool: SuspendedPool, prefect_proxy: FaultProxy, kube_proxy: FaultProxy, tmp_path: Path
) -> WorkerHarness:
    """Runs workers of that pool behind both proxies."""
    kubeconfig = kube_proxy.write_kubeconfig(tmp_path / "kubeconfig")
    return WorkerHarness(worker_pool.name, prefect_proxy.url, kubeconfig)
