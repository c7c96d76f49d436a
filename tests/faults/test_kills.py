"""The operator is killed at the worst moments; its successor finishes each run once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import product

import pytest

from tests.faults.conftest import Past, Writes
from tests.faults.smoke import params
from tests.support.deployments import Deployer
from tests.support.fault_proxy import Call, FaultProxy
from tests.support.kube import Object
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi

Start = Callable[[], Awaitable[Operator]]


@pytest.mark.parametrize(
    ("write", "moment"),
    params(
        product(["claim", "job", "pid"], ["before", "after"]),
        smoke={("claim", "after"), ("job", "before"), ("pid", "before")},
    ),
)
async def test_a_run_completes_once_although_the_operator_is_killed_at_a_write(
    write: str,
    moment: str,
    api: PrefectApi,
    writes: Writes,
    past: Past,
    served: Operator,
    start: Start,
    deployment: Object,
) -> None:
    match = writes[write].once()
    (match if moment == "before" else match.after()).kill(served.pid)
    run = await api.create_run(deployment["id"])
    assert await served.ended() == -9
    await start()
    await api.wait_for_state(run["id"], "COMPLETED")
    assert len(past.jobs.seen) == 1
    assert len(past.pods.seen) == 1
    assert await api.state_names(run["id"]) == ["Scheduled", "Pending", "Running", "Completed"]


@pytest.mark.parametrize("moment", params(["before", "after"], smoke={"after"}))
async def test_a_run_crashes_once_although_the_operator_is_killed_as_it_reports_the_end(
    moment: str,
    api: PrefectApi,
    writes: Writes,
    past: Past,
    served: Operator,
    start: Start,
    deployment: Object,
) -> None:
    match = writes["crash"].once()
    (match if moment == "before" else match.after()).kill(served.pid)
    exits = {"command": "sh -c 'exit 7'"}
    run = await api.create_run(deployment["id"], job_variables=exits)
    assert await served.ended() == -9
    await start()
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "exited with code 7" in run["state"]["message"]
    await past.jobs.until(lambda jobs: "ttlSecondsAfterFinished" in jobs[0]["spec"])
    assert await api.state_names(run["id"]) == ["Scheduled", "Pending", "Crashed"]
    assert len(past.jobs.seen) == 1


async def test_the_slot_of_a_deployment_is_kept_by_the_successor_of_a_killed_operator(
    api: PrefectApi,
    prefect_proxy: FaultProxy,
    served: Operator,
    start: Start,
    deploy: Deployer,
) -> None:
    renewed = prefect_proxy.on("POST", r"/leases/.*/renew$").run(lambda call: None)
    deployment = await deploy("hello", fields={"concurrency_limit": 1}, cpu_request="900")
    run = await api.create_run(deployment["id"])
    await api.wait(run["id"], until=lambda run: run["state_name"] == "Unschedulable")
    served.kill()
    await start()
    call = await renewed.wait()
    await poll(lambda: _status(call), until=lambda status: status is not None)
    assert call.status == 204


async def _status(call: Call) -> int | None:
    return call.status


async def test_no_run_of_a_burst_is_lost_or_run_twice_by_kills_at_random_moments(
    api: PrefectApi,
    past: Past,
    served: Operator,
    start: Start,
    quick: Callable[..., Awaitable[Object]],
) -> None:
    moments = random.Random(3)
    operator = served
    runs = []
    for _ in range(3):
        runs += [await quick() for _ in range(4)]
        await asyncio.sleep(moments.uniform(0, 0.5))
        operator.kill()
        operator = await start()
    for run in runs:
        await api.wait_for_state(run["id"], "COMPLETED")
    assert len(past.jobs.seen) == len(runs)
    assert len(past.pods.seen) == len(runs)
