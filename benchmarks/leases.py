"""Measures what the Leases of many bindings cost: the API server, etcd, their holder, and a replica
that watches them.

The holder is this process. It renews each Lease as a binding's holder does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.contenders import Environment, namespace
from benchmarks.processes import BENCHMARK, Machine
from benchmarks.statistics import Figure, Result, nearest_rank
from localnode import progress
from workpool_operator.errors import OperatorError
from workpool_operator.jobs import names
from workpool_operator.kube.client import LEASES, KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.kube.leases import RENEW_SECONDS, LeaseLock
from workpool_operator.kube.models import LEASE_LABEL, MANAGED, Lease
from workpool_operator.kube.reflector import Reflector

IDENTITY = "workpool-operator-7d9c5b6f4-x2k8p_51c0a8e3"
MEASURED_SECONDS = 30.0
CREATED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """Renewals and watch events per second, CPU milliseconds per renewal by program, and how long
    each renewal took."""

    renewals: float
    events: float
    cpu: dict[str, float]
    seconds: Sequence[float]
    failed: int


class Watched:
    """Counts what a replica's watch shows, and keeps it as a replica does."""

    def __init__(self) -> None:
        self.events = 0
        self._leases: dict[str, Lease] = {}

    def put(self, lease: Lease) -> None:
        self.events += 1
        self._leases[lease.metadata.uid] = lease

    def remove(self, uid: str) -> None:
        self._leases.pop(uid, None)

    def uids(self, _: str) -> set[str]:
        return set(self._leases)


async def measure(environment: Environment, *, leases: int) -> Result:
    """Measure the Leases of so many bindings, first without a watch, then with one."""
    kubeconfig = Kubeconfig(str(environment.cluster.kubeconfig))
    async with (
        namespace(environment.kube) as name,
        await KubernetesClient.from_environment(kubeconfig) as kube,
    ):
        locks = [_lock(kube, name, number) for number in range(leases)]
        with progress.step(f"{leases:,} Leases"):
            await _acquire(locks)
            alone = await _cost(locks)
            watched = await _watched_cost(kube, name, locks)
    return Result(
        f"The Leases of {leases:,} bindings",
        _figures(alone, watched),
        "One process renews each Lease every 3 s. CPU times are per renewal; the watch is that of"
        " one other replica, in the same process, so that its cost is the difference.",
    )


def _lock(kube: KubernetesClient, namespace: str, number: int) -> LeaseLock:
    name = f"b{number}"
    return LeaseLock(
        kube,
        namespace=namespace,
        name=names.lease_name(name),
        identity=IDENTITY,
        metadata={"labels": {**MANAGED, LEASE_LABEL: "binding"}},
    )


async def _acquire(locks: Sequence[LeaseLock]) -> None:
    for first in range(0, len(locks), CREATED_AT_ONCE):
        await asyncio.gather(*(each.acquire() for each in locks[first : first + CREATED_AT_ONCE]))


async def _watched_cost(kube: KubernetesClient, namespace: str, locks: Sequence[LeaseLock]) -> Cost:
    watched = Watched()
    reflector = Reflector(
        kube,
        LEASES,
        namespace=namespace,
        selector=f"{LEASE_LABEL}=binding",
        cache=watched,
        followed=lambda _: None,
    )
    watch = asyncio.create_task(reflector.run())
    try:
        return await _cost(locks, watched)
    finally:
        watch.cancel()


async def _cost(locks: Sequence[LeaseLock], watched: Watched | None = None) -> Cost:
    """Renew the Leases; measure once all have been renewed for the first time."""
    seconds: list[float] = []
    failures: list[OperatorError] = []
    renewals = [asyncio.create_task(_keep(each, seconds, failures)) for each in locks]
    await asyncio.sleep(2 * RENEW_SECONDS)
    machine, events = Machine({}), watched.events if watched else 0
    seconds.clear()
    before, began = machine.usage(), time.monotonic()
    await asyncio.sleep(MEASURED_SECONDS)
    used, lasted, count = machine.usage() - before, time.monotonic() - began, len(seconds)
    for each in renewals:
        each.cancel()
    cpu = {program: 1000 * spent / count for program, spent in used.cpu_seconds.items()}
    seen = (watched.events - events) / lasted if watched else 0.0
    return Cost(count / lasted, seen, cpu, tuple(seconds), len(failures))


async def _keep(lock: LeaseLock, seconds: list[float], failures: list[OperatorError]) -> None:
    await asyncio.sleep(random.uniform(0, RENEW_SECONDS))
    while True:
        began = time.monotonic()
        try:
            await lock.renew()
        except OperatorError as error:
            failures.append(error)
        seconds.append(time.monotonic() - began)
        await asyncio.sleep(RENEW_SECONDS * random.uniform(0.9, 1.1))


def _figures(alone: Cost, watched: Cost) -> list[Figure]:
    per_event = (watched.cpu[BENCHMARK] - alone.cpu[BENCHMARK]) * watched.renewals / watched.events
    cpu = [
        Figure(f"CPU time of {program} per renewal", alone.cpu[program], unit="ms", digits=2)
        for program in ("kube-apiserver", "etcd")
    ]
    with_watch = watched.cpu["kube-apiserver"] - alone.cpu["kube-apiserver"]
    return [
        Figure("renewals per second", alone.renewals),
        Figure("a renewal, p50", 1000 * nearest_rank(alone.seconds, 0.5), unit="ms", digits=1),
        Figure("a renewal, p99", 1000 * nearest_rank(alone.seconds, 0.99), unit="ms", digits=1),
        Figure("renewals that failed", alone.failed + watched.failed, at_most=0),
        *cpu,
        Figure("CPU time of the holder per renewal", alone.cpu[BENCHMARK], unit="ms", digits=2),
        Figure("watch events per second and replica", watched.events),
        Figure("CPU time of a replica per event", per_event, unit="ms", digits=2),
        Figure("CPU time of kube-apiserver per event", with_watch, unit="ms", digits=2),
    ]
