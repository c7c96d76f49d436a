"""Runs whose deployment or work queue has no free slot cost no claims and hold up no others, on
real servers (docs/races.md, 6, 30)."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.support.polling import poll
from tests.support.promises import FILLED_SECONDS, SOON

PARKED = 60  # more than a poll reads


@pytest.fixture
def queue_runs(api, suspended_pool):
    """`await queue_runs(5, concurrency_limit=1)`: due runs of a new deployment, one after the
    other."""
    at = datetime.now(UTC) - timedelta(minutes=10)

    async def queue(count, **deployment):
        nonlocal at
        name = uuid.uuid4().hex[:8]
        made = await api.create_deployment(
            flow="hello", name=name, pool=suspended_pool["name"], **deployment
        )
        runs = []
        for _ in range(count):
            at += timedelta(seconds=1)
            runs.append(await api.create_run(made["id"], due=at))
        return runs

    return queue


@pytest.fixture
def serve(operator, binding, suspended_pool, prefect_proxy):
    """`await serve()`: a binding that has the pool claimed, through the proxy."""

    async def start(**spec):
        await operator()
        served = await binding(
            workPool={"name": suspended_pool["name"]}, server={"url": prefect_proxy.url}, **spec
        )
        await served.ready()
        return served

    return start


def claims_of(prefect_proxy, runs):
    ids = "|".join(run["id"] for run in runs)
    return prefect_proxy.calls(f"({ids})/set_state")


async def claimed(api, runs, *, seconds=SOON):
    """Return those of the runs that are PENDING, as soon as there is one."""

    async def pending():
        found = [await api.read_run(run["id"]) for run in runs]
        return [run for run in found if run["state_type"] == "PENDING"]

    return await poll(pending, until=bool, seconds=seconds)


async def test_race_06_a_run_behind_those_of_a_deployment_without_a_free_slot_is_claimed(
    api, serve, queue_runs, prefect_proxy
):
    holder, *parked = await queue_runs(1 + PARKED, concurrency_limit=1)
    (free,) = await queue_runs(1)
    served = await serve()
    await claimed(api, [free])
    await claimed(api, [holder])
    await served.wait(lambda status: status["runs"]["queued"] == PARKED, seconds=SOON)
    claiming = await served.condition("Claiming", "True")
    assert "for that of their deployment" in claiming["message"]
    assert claims_of(prefect_proxy, parked) == []


async def test_race_30_a_slot_of_a_deployment_is_filled_at_once_and_never_claimed_in_vain(
    api, serve, queue_runs, prefect_proxy
):
    holder, *parked = await queue_runs(4, concurrency_limit=1)
    await serve(poll={"intervalSeconds": 55})
    await claimed(api, [holder])
    await asyncio.sleep(1)
    for _ in range(2):
        await api.set_state(holder["id"], "COMPLETED")
        began = time.monotonic()
        (holder,) = await claimed(api, parked)
        assert time.monotonic() - began < FILLED_SECONDS
        parked = [run for run in parked if run["id"] != holder["id"]]
        assert claims_of(prefect_proxy, parked) == []


async def test_race_30_slots_that_others_take_before_the_claims_cost_few_of_them(
    api, serve, queue_runs, prefect_server, prefect_proxy
):
    runs = await queue_runs(30, concurrency_limit=3)
    limit = f"/v2/concurrency_limits/deployment:{runs[0]['deployment_id']}"

    def take(call):
        httpx.patch(f"{prefect_server.url}{limit}", json={"active_slots": 3})

    prefect_proxy.on("POST", "/deployments/filter").once().after().run(take)
    await serve()
    await asyncio.sleep(8)
    refused = len(claims_of(prefect_proxy, runs))
    assert 1 <= refused <= 3
    states = [(await api.read_run(run["id"]))["state_name"] for run in runs]
    assert states.count("AwaitingConcurrencySlot") == refused


async def test_a_slot_of_a_work_queue_is_filled_at_once_and_the_runs_that_wait_for_it_are_counted(
    api, serve, queue_runs, suspended_pool
):
    queue = f"/work_pools/{suspended_pool['name']}/queues/default"
    await api.request("PATCH", queue, {"concurrency_limit": 1})
    holder, *waiting = await queue_runs(3)
    served = await serve(poll={"intervalSeconds": 55})
    await claimed(api, [holder])
    await served.wait(lambda status: status["runs"]["queued"] == len(waiting), seconds=SOON)
    claiming = await served.condition("Claiming", "True")
    assert "2 for that of the work pool or of a work queue" in claiming["message"]
    for run in waiting:
        await api.set_state(holder["id"], "COMPLETED")
        began = time.monotonic()
        await claimed(api, [run])
        assert time.monotonic() - began < FILLED_SECONDS
        holder = run
