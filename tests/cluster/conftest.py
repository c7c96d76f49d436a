"""One line for a pool that is served, one for a run of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.binding import Binding
from tests.support.deployments import Deployer
from tests.support.kube import Object
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi


@pytest.fixture
def serve(
    operator: Callable[..., Awaitable[Operator]], binding: Callable[..., Awaitable[Binding]]
) -> Callable[..., Awaitable[Operator]]:
    """`await serve(concurrencyLimit=1)`: an operator, and a binding of that spec, Ready."""

    async def serve(**spec: Any) -> Operator:
        process = await operator()
        await (await binding(**spec)).ready()
        return process

    return serve


@pytest.fixture
def launch(api: PrefectApi, deploy: Deployer) -> Callable[..., Awaitable[Object]]:
    """`await launch("sleep", {"seconds": 5}, memory_limit="64Mi")`: a run with those parameters
    and job variables, due now."""

    async def launch(
        flow: str = "hello", parameters: Object | None = None, **job_variables: Any
    ) -> Object:
        deployment = await deploy(flow)
        fields: Object = {"parameters": parameters or {}, "job_variables": job_variables}
        return await api.create_run(deployment["id"], **fields)

    return launch
