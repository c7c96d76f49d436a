"""Two replicas, of which the one that serves is killed, ended or stopped while runs come in; also
if their clocks or their versions differ.

The Jobs are suspended: this is about claims, not about pods.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Past
from tests.support import other_version, wrong_clock
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
from workpool_operator.kube.leases import LEASE_SECONDS, RENEW_SECONDS

LEASE = "workpoolbinding-pool"
MARGIN_SECONDS = 3  # for a machine that tests load
KILLED_SECONDS = 15 + MARGIN_SECONDS
ENDED_SECONDS = 2 + 1  # measured alone: 0.4 s
STOPPED_SECONDS = 60
OURS = ()  # the program of this version, on a machine with a right clock
SETTLED_SECONDS = 1.5

Runs = Callable[[], AbstractAsyncContextManager[Load]]
Pair = Callable[..., Awaitable[tuple["Replica", "Replica"]]]


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


def changes(calls: list[Call]) -> list[str]:
    """Return what the requests to Prefect changed. Lines of a run's log change nothing."""
    found = [call for call in calls if call.method != "GET" and "/logs/" not in call.path]
    reads = ("/filter", "/count", "/get_scheduled_flow_runs")
    return [f"{call.method} {call.path}" for call in found if not call.path.endswith(reads)]


def takes_lease(call: Call) -> bool:
    return "/leases" in call.path and b"holderIdentity" in call.body and call.status == 200


@pytest.fixture
async def replica(
    operator: Callable[..., Awaitable[Operator]], cluster: Any, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Replica]]]:
    """`await replica()` starts one behind a proxy of its own."""
    with ExitStack() as stack:

        async def start(
            *, program: Sequence[str] = OURS, prepare: Callable[[FaultProxy], None] = lambda _: None
        ) -> Replica:
            upstream = Endpoint.of_kubeconfig(cluster.kubeconfig)
            proxy = stack.enter_context(FaultProxy(upstream))
            prepare(proxy)
            kubeconfig = proxy.write_kubeconfig(tmp_path / f"proxied-{uuid.uuid4().hex[:8]}")
            return Replica(await operator(kubeconfig=kubeconfig, program=program), proxy)

        yield start


@pytest.fixture
async def deployment(api: PrefectApi, pool: str) -> Object:
    """A deployment in a pool whose Jobs are suspended."""
    template = suspended_template()
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    return await api.create_deployment(flow="hello", name=pool, pool=pool)


@pytest.fixture
def pair_of(
    replica: Callable[..., Awaitable[Replica]],
    binding: Callable[..., Awaitable[Binding]],
    deployment: Object,
    kube: Kube,
    namespace: str,
    prefect_proxy: FaultProxy,
) -> Pair:
    """`await pair_of(program, program)`: the replica that serves the binding, and the other one.
    Both call Prefect through one proxy."""

    async def holder() -> str:
        lease = await kube.get("leases", namespace, LEASE)
        return lease["spec"].get("holderIdentity", "") if lease else ""

    async def start(one: Sequence[str], two: Sequence[str]) -> tuple[Replica, Replica]:
        first = await replica(program=one)
        served = await binding(server={"url": prefect_proxy.url})
        await served.ready()
        second = await replica(program=two)
        by_identity = {await each.identity(): each for each in (first, second)}
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

    return start


@pytest.fixture
async def pair(pair_of: Pair) -> tuple[Replica, Replica]:
    return await pair_of(OURS, OURS)


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


@pytest.mark.alone
async def test_the_bindings_of_a_replica_that_ends_are_served_again_within_2_s(
    pair: tuple[Replica, Replica], load: Runs, past: Past
) -> None:
    serves, other = pair
    async with load() as runs:
        assert await serves.process.terminate() == 0
        await other.process.says("/pool: serving")
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
        await other.process.says("took its Lease", seconds=KILLED_SECONDS)
        await asyncio.sleep(2)  # the other one claims what is due
        before = len(stopped.kube.calls())
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


@pytest.mark.extended
async def test_a_replica_that_was_stopped_for_a_minute_changes_nothing_until_the_lease_is_its_own(
    pair: tuple[Replica, Replica], load: Runs, past: Past, prefect_proxy: FaultProxy
) -> None:
    """It is stopped while it claims a run; the answer waits for it. Before it continues, the other
    one is stopped, so that every request to Prefect is its own."""
    stopped, other = pair
    claims = prefect_proxy.on("POST", r"/set_state$", body='"Pending"').once().after().hold()
    async with load() as runs:
        await claims.wait()
        os.kill(stopped.process.pid, signal.SIGSTOP)
        claims.release()
        await other.process.says("took its Lease", seconds=KILLED_SECONDS)
        await asyncio.sleep(STOPPED_SECONDS - 10)
        os.kill(other.process.pid, signal.SIGSTOP)
        await asyncio.sleep(1)
        before, earlier = len(stopped.kube.calls()), len(prefect_proxy.calls())
        os.kill(stopped.process.pid, signal.SIGCONT)
        await stopped.process.says("lost its Lease", seconds=10)

        async def since() -> list[Call]:
            return stopped.kube.calls()[before:]

        calls = await poll(since, until=lambda calls: any(map(takes_lease, calls)))
        taken = next(index for index, call in enumerate(calls) if takes_lease(call))
        assert writes(calls[:taken]) == []
        untaken = [
            call for call in prefect_proxy.calls()[earlier:] if call.began < calls[taken].began
        ]
        assert changes(untaken) == []
        os.kill(other.process.pid, signal.SIGCONT)

        async def log() -> str:
            return other.process.log

        # It notices first that the Lease has another holder, or that the binding is assigned to it.
        ends = "lost its Lease", "moved to another replica"
        await poll(log, until=lambda it: any(end in it for end in ends), seconds=10)
    await runs.longest_gap()
    assert len(past.jobs.seen) == len(runs.runs)
    assert "Traceback" not in stopped.process.log + other.process.log


@pytest.mark.extended
async def test_replicas_whose_clocks_differ_by_a_minute_wait_for_a_lease_as_long_as_others(
    pair_of: Pair, load: Runs, past: Past
) -> None:
    serves, other = await pair_of(wrong_clock.program(30), wrong_clock.program(-30))
    async with load() as runs:
        killed_at, before = time.monotonic(), other.process.log.count("took its Lease")
        serves.process.kill()

        async def taken() -> int:
            return other.process.log.count("took its Lease") - before

        await poll(taken, until=bool, seconds=KILLED_SECONDS)
        assert time.monotonic() - killed_at > LEASE_SECONDS - RENEW_SECONDS - 1
    assert await runs.longest_gap() < KILLED_SECONDS
    assert len(past.jobs.seen) == len(runs.runs)
    for each in (serves, other):
        assert "The clock of" in each.process.log
        assert "Traceback" not in each.process.log


async def test_of_replicas_of_two_versions_one_serves_and_the_other_names_it_until_it_ends(
    replica: Callable[..., Awaitable[Replica]],
    binding: Callable[..., Awaitable[Binding]],
    deployment: Object,
    namespace: str,
    load: Runs,
    past: Past,
) -> None:
    """The other version renews its Lease every 12 s, and does not count replicas of this one."""
    old = await replica(program=other_version.program())
    await (await binding()).ready()
    new = await replica()
    holder = await old.identity()
    async with load() as runs:
        await new.process.says(f"waits for its Lease {namespace}/{LEASE}, which {holder} holds")
        await asyncio.sleep(12 + MARGIN_SECONDS)
        assert "/pool: serving" not in new.process.log
        assert await old.process.terminate() == 0
        await new.process.says("/pool: serving", seconds=ENDED_SECONDS)
    await runs.longest_gap()
    assert len(past.jobs.seen) == len(runs.runs)
    assert "lost its Lease" not in old.process.log
    assert "Traceback" not in old.process.log + new.process.log


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
        await each.process.says("/pool: serving")
    await served.ready()
    async with load() as runs:
        await asyncio.sleep(4)
    await runs.longest_gap()
    assert len(past.jobs.seen) == len(runs.runs)
    for each in both:
        assert "Traceback" not in each.process.log
        assert "lost its Lease" not in each.process.log
