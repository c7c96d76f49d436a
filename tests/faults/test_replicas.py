"""Two replicas, of which the one that serves is killed, ended or stopped while runs come in.

The Jobs are suspended: this is about claims, not about pods.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Past
from tests.support.binding import Binding
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import Call, FaultProxy
from tests.support.kube import Kube, Object
from tests.support.lease_proxy import keep_leases_apart
from tests.support.load import Load
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.suspended_pool import suspended_template

LEASE = "workpoolbinding-pool"
MARGIN_SECONDS = 3  # for a machine that tests load
KILLED_SECONDS = 15 + MARGIN_SECONDS
ENDED_SECONDS = 2 + MARGIN_SECONDS
SETTLED_SECONDS = 1.5

Runs = Callable[[], AbstractAsyncContextManager[Load]]


@dataclass(frozen=True)
class Replica:
    """A process, and the proxy through which it calls the API server."""

    process: Operator
    kube: FaultProxy

    async def identity(self) -> str:
        """Return the name under which it holds Leases."""
        await self.process.says("this replica is ")
        return self.process.log.partition("this replica is ")[2].split()[0]


def writes(calls: list[Call]) -> list[str]:
    """Return what the requests wrote, but for Leases and reviews of rights."""
    found = [call for call in calls if call.method != "GET" and "dryRun" not in call.query]
    paths = [f"{call.method} {call.path}" for call in found]
    return [path for path in paths if "/leases" not in path and "reviews" not in path]


def takes_lease(call: Call) -> bool:
    return "/leases" in call.path and b"holderIdentity" in call.body and call.status == 200


@pytest.fixture
async def replica(
    operator: Callable[..., Awaitable[Operator]], cluster: Any, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Replica]]]:
    """`await replica()` starts one behind a proxy of its own."""
    with ExitStack() as stack:

        async def start(*, prepare: Callable[[FaultProxy], None] = lambda _: None) -> Replica:
            upstream = Endpoint.of_kubeconfig(cluster.kubeconfig)
            proxy = stack.enter_context(FaultProxy(upstream))
            prepare(proxy)
            kubeconfig = proxy.write_kubeconfig(tmp_path / f"proxied-{uuid.uuid4().hex[:8]}")
            return Replica(await operator(kubeconfig=kubeconfig), proxy)

        yield start


@pytest.fixture
async def deployment(api: PrefectApi, pool: str) -> Object:
    """A deployment in a pool whose Jobs are suspended."""
    template = suspended_template()
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    return await api.create_deployment(flow="hello", name=pool, pool=pool)


@pytest.fixture
async def pair(
    replica: Callable[[], Awaitable[Replica]],
    binding: Callable[..., Awaitable[Binding]],
    deployment: Object,
    kube: Kube,
    namespace: str,
) -> tuple[Replica, Replica]:
    """The replica that serves the binding, and the other one."""
    first = await replica()
    served = await binding()
    await served.ready()
    second = await replica()
    by_identity = {await each.identity(): each for each in (first, second)}

    async def holder() -> str:
        lease = await kube.get("leases", namespace, LEASE)
        return lease["spec"].get("holderIdentity", "") if lease else ""

    since, last = time.monotonic(), ""
    async with asyncio.timeout(30):
        while time.monotonic() - since < SETTLED_SECONDS or not last:
            if (now := await holder()) != last:
                since, last = time.monotonic(), now
            await asyncio.sleep(0.1)
    await served.ready()
    serves = by_identity.pop(last)
    [other] = by_identity.values()
    return serves, other


@pytest.fixture
def load(api: PrefectApi, deployment: Object) -> Runs:
    """`async with load() as runs`: a new run four times per second."""
    return lambda: Load.on(api, deployment["id"])


async def test_the_bindings_of_a_killed_replica_are_served_again_within_15_s(
    pair: tuple[Replica, Replica], load: Runs, past: Past
) -> None:
    serves, other = pair
    async with load() as runs:
        serves.process.kill()
        await other.process.says("took its Lease", seconds=KILLED_SECONDS)
    gap = await runs.longest_gap()
    print(f"longest gap without a claim after kill -9: {gap:.1f} s")
    assert gap < KILLED_SECONDS
    assert len(past.jobs.seen) == len(runs.runs)
    assert "Traceback" not in other.process.log


async def test_the_bindings_of_a_replica_that_ends_are_served_again_within_2_s(
    pair: tuple[Replica, Replica], load: Runs, past: Past
) -> None:
    serves, other = pair
    async with load() as runs:
        assert await serves.process.terminate() == 0
        await other.process.says(": serving")
        await asyncio.sleep(ENDED_SECONDS)
    gap = await runs.longest_gap()
    print(f"longest gap without a claim after SIGTERM: {gap:.1f} s")
    assert gap < ENDED_SECONDS
    assert len(past.jobs.seen) == len(runs.runs)
    assert "Traceback" not in serves.process.log + other.process.log


async def test_a_replica_that_was_stopped_notices_before_it_acts(
    pair: tuple[Replica, Replica], load: Runs, past: Past
) -> None:
    """The Lease is its own again afterwards, because the binding is assigned to it."""
    stopped, other = pair
    async with load() as runs:
        os.kill(stopped.process.pid, signal.SIGSTOP)
        before = len(stopped.kube.calls())
        await other.process.says("took its Lease", seconds=KILLED_SECONDS)
        await asyncio.sleep(2)  # the other one claims what is due
        os.kill(stopped.process.pid, signal.SIGCONT)
        await stopped.process.says("lost its Lease", seconds=10)
        await other.process.says("moved to another replica")

        async def since() -> list[Call]:
            return stopped.kube.calls()[before:]

        calls = await poll(since, until=lambda calls: any(map(takes_lease, calls)))
        taken = next(index for index, call in enumerate(calls) if takes_lease(call))
        assert writes(calls[:taken]) == []
    await runs.longest_gap()
    assert len(past.jobs.seen) == len(runs.runs)
    assert "Traceback" not in stopped.process.log + other.process.log


async def test_two_replicas_that_hold_one_lease_by_mistake_create_one_job_for_each_run(
    replica: Any,
    binding: Callable[..., Awaitable[Binding]],
    deployment: Object,
    load: Runs,
    past: Past,
) -> None:
    served = await binding()
    both = [await replica(), await replica(prepare=keep_leases_apart)]
    for each in both:
        await each.process.says(": serving")
    await served.ready()
    async with load() as runs:
        await asyncio.sleep(4)
    await runs.longest_gap()
    assert len(past.jobs.seen) == len(runs.runs)
    for each in both:
        assert "Traceback" not in each.process.log
        assert "lost its Lease" not in each.process.log
