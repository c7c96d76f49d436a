"""Claims of one poll, made at the same time: each takes its own deployment's slot
(docs/conformance.md, 24c)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from tests.support.prefect import Object, PrefectApi
from tests.support.stepwise_controller import StepwiseController

Start = Callable[..., Awaitable[StepwiseController]]
RUNS = 4


async def runs_of_a_deployment(api: PrefectApi, pool: Object, **fields: object) -> list[Object]:
    name = uuid.uuid4().hex[:8]
    deployment = await api.create_deployment(flow="hello", name=name, pool=pool["name"], **fields)
    return [await api.create_run(deployment["id"]) for _ in range(RUNS)]


async def test_case_24c_a_lease_stays_with_the_run_that_took_it(
    api: PrefectApi, start: Start, suspended_pool: Object
) -> None:
    """Prefect's bulk request leaks leases between runs of one batch; single claims do not."""
    limited = await runs_of_a_deployment(api, suspended_pool, concurrency_limit=RUNS)
    free = await runs_of_a_deployment(api, suspended_pool)
    here = await start()
    await asyncio.gather(
        *(here.claimed(run) for pair in zip(limited, free, strict=True) for run in pair)
    )
    assert len({await lease_of(api, run) for run in limited} - {None}) == RUNS
    assert {await lease_of(api, run) for run in free} == {None}
    for run in free:
        await api.set_state(run["id"], "COMPLETED")
    slots = f"/v2/concurrency_limits/deployment:{limited[0]['deployment_id']}"
    assert (await api.one("GET", slots))["active_slots"] == RUNS


async def lease_of(api: PrefectApi, run: Object) -> str | None:
    state = (await api.read_run(run["id"]))["state"]
    assert state["type"] == "PENDING"
    found: str | None = state["state_details"]["deployment_concurrency_lease_id"]
    return found
