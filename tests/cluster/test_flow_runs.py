"""Flow runs from their deployment to their end, in real pods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.support.binding import Binding
from tests.support.deployments import Deployer
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi


async def test_a_flow_run_ends_completed_and_its_log_is_kept(
    api: PrefectApi,
    operator: Callable[..., Awaitable[Operator]],
    binding: Callable[..., Awaitable[Binding]],
    deploy: Deployer,
) -> None:
    await operator()
    await (await binding()).ready()
    deployment = await deploy("hello", fields={"parameters": {"name": "cluster"}})
    run = await api.create_run(deployment["id"])
    await api.wait_for_state(run["id"], "COMPLETED")
    assert "Hello, cluster!" in await api.logs(run["id"])
