"""What a burst of due runs costs Prefect: no read that an answer already gave."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

from tests.support.polling import poll

RUNS = 80  # several polls
POLL = r"/get_scheduled_flow_runs$"


async def test_a_burst_costs_two_requests_for_each_run_and_a_few_for_all_of_them(
    api, operator, binding, suspended_pool, prefect_proxy
):
    pool = suspended_pool["name"]
    deployment = await api.create_deployment(flow="hello", name=pool, pool=pool)
    due = datetime.now(UTC) + timedelta(minutes=1)  # none becomes Late after its claim
    runs = await asyncio.gather(*(api.create_run(deployment["id"], due=due) for _ in range(RUNS)))
    await operator()
    await binding(
        workPool={"name": pool},
        server={"url": prefect_proxy.url},
        poll={"prefetchSeconds": 120},
    )

    async def recorded():
        calls = prefect_proxy.calls("/flow_runs/", method="PATCH")
        return {call.path for call in calls if b"infrastructure_pid" in call.body}

    await poll(recorded, until=lambda paths: len(paths) == RUNS, seconds=60)
    claims = Counter(
        call.path
        for call in prefect_proxy.calls("/set_state$")
        if b'"Pending"' in call.body.replace(b" ", b"")
    )
    assert len(claims) == RUNS
    assert claims.total() == RUNS
    assert not any(prefect_proxy.calls(run["id"], method="GET") for run in runs)
    assert len(prefect_proxy.calls("/flows/filter$")) == 1
    reads = [POLL, "/deployments/filter$", "/flow_runs/count$", "/flow_runs/filter$"]
    assert sum(len(prefect_proxy.calls(path)) for path in reads) < RUNS / 2
