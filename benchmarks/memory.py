"""Measures the operator's memory, with a stub of Prefect and the real Kubernetes API.

A process follows thousands of live Jobs, is started again next to them, serves a hundred bindings,
sees thousands of runs end, and runs next to thousands of pods of others. The benchmark stands for
the Job controller and the kubelet: its Jobs are `managedBy` it, and their pods have no node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import loop_steps
from benchmarks.contenders import START_SECONDS, Environment, namespace, operator_process
from benchmarks.job_watch import JobWatch, watch_jobs
from benchmarks.loop_steps import Longest, longest_steps
from benchmarks.pictures import Series, lines
from benchmarks.processes import Usage
from benchmarks.statistics import Figure, Result
from benchmarks.stub_process import Stub, stub
from localnode import progress
from tests.support.binding import Binding
from tests.support.kube import Object
from tests.support.managed_jobs import MANAGED_BY, complete, create_pod
from tests.support.operator import Operator
from tests.support.polling import poll

POOL = "bench"
MIB = 1 << 20
AT_ONCE = 16  # requests of the benchmark
WAVE = 1000
WITH_PODS = 100  # of a wave of runs that end
SETTLED_SECONDS = 10.0
STARTED_SECONDS = 30.0
IDLE_SECONDS = 30.0
WAVE_SECONDS = 900

IDLE_MIB, JOBS_MIB, BINDINGS_MIB = 150, 400, 400
STEP_MILLISECONDS = 50
GROWTH_MIB = 10  # what the allocator may keep more
IDLE_CPU = 2.0  # milliseconds per second

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many of each; 0 is not measured."""

    jobs: int = 10_000
    bindings: int = 100
    ended: int = 20_000
    others: int = 50_000


async def measure(environment: Environment, plan: Plan) -> Result:
    """Measure each of them that the plan has, with a new process in a new namespace."""
    figures: list[Figure] = []
    pictures: dict[str, str] = {}
    if plan.jobs:
        with progress.step(f"{plan.jobs:,} live Jobs"):
            live = await of_live_jobs(environment, plan.jobs)
        figures += _of_live(live, plan.jobs)
        curve = Series("live Jobs, each with a pod", live.curve)
        pictures["benchmark-memory.svg"] = _picture(curve, x="live Jobs")
    if plan.bindings:
        with progress.step(f"{plan.bindings} bindings"):
            mib = await of_bindings(environment, plan.bindings)
        name = f"resident memory, {plan.bindings} bindings"
        figures.append(Figure(name, mib, unit="MiB", at_most=BINDINGS_MIB))
    if plan.ended:
        with progress.step(f"{plan.ended:,} runs that end"):
            ended = await of_ended_runs(environment, plan.ended)
        figures += _of_ended(ended)
        curve = Series("ended runs", ended)
        pictures["benchmark-memory-ended.svg"] = _picture(curve, x="runs that have ended")
    if plan.others:
        with progress.step(f"{plan.others:,} pods of others"):
            figures += _of_others(await of_others(environment, plan.others), plan.others)
    return Result(
        "Memory, with a stub of Prefect",
        figures,
        _text(live.longest if plan.jobs else None),
        pictures,
    )


def _picture(curve: Series, *, x: str) -> str:
    return lines("Resident memory of one process", [curve], x=x, y="MiB")


def _of_live(live: Live, jobs: int) -> list[Figure]:
    step = 1000 * live.longest.cpu_seconds
    name = f"longest step of the loop at the start next to {jobs:,} Jobs"
    return [
        Figure("resident memory, idle", live.idle, unit="MiB", at_most=IDLE_MIB),
        Figure(f"resident memory, {jobs:,} live Jobs", live.full, unit="MiB", at_most=JOBS_MIB),
        Figure("resident memory, started next to them", live.again, unit="MiB", at_most=JOBS_MIB),
        Figure(name, step, unit="ms of CPU time", at_most=STEP_MILLISECONDS),
    ]


def _of_ended(curve: Sequence[Point]) -> list[Figure]:
    (first, before), (last, after) = curve[0], curve[-1]
    name = f"growth from {first:,.0f} to {last:,.0f} ended runs"
    return [
        Figure(f"resident memory, {first:,.0f} ended runs", before, unit="MiB"),
        Figure(name, after - before, unit="MiB", at_most=GROWTH_MIB),
    ]


def _of_others(others: Others, count: int) -> list[Figure]:
    grown = others.next_to.mib - others.before.mib
    where, per_second = f"next to {count:,} pods of others", "ms/s"
    return [
        Figure(f"growth {where}", grown, unit="MiB", digits=1, at_most=GROWTH_MIB),
        Figure("CPU time, idle", others.before.cpu, unit=per_second, digits=1, at_most=IDLE_CPU),
        Figure(
            f"CPU time, idle {where}",
            others.next_to.cpu,
            unit=per_second,
            digits=1,
            at_most=IDLE_CPU,
        ),
        Figure("CPU time while they were created", others.created, unit=per_second, digits=1),
        Figure(f"resident memory, started {where}", others.again, unit="MiB", at_most=IDLE_MIB),
    ]


def _text(longest: Longest | None) -> str:
    text = (
        "Resident memory of one process. The benchmark stands for the Job controller and the"
        " kubelet: each Job has a pod, which no node runs. Half of the pods of others are in the"
        " namespace of the Jobs."
    )
    if longest is None:
        return text
    listed = [f"- {1000 * seconds:.0f} ms {what}" for seconds, what in longest.steps]
    heading = "The steps of the loop with the most CPU time, at the start next to the live Jobs:"
    return "\n".join([text, "", heading, "", *listed])


# Live Jobs


@dataclass(frozen=True, slots=True)
class Live:
    """MiB without Jobs, with all of them, and of a process that was started next to them; that
    one's longest steps; MiB by the number of Jobs."""

    idle: float
    full: float
    again: float
    longest: Longest
    curve: Sequence[Point]


async def of_live_jobs(environment: Environment, count: int) -> Live:
    async with _bound(environment) as bound:
        async with operator_process(environment, [bound.namespace]) as process:
            await bound.serve()
            await asyncio.sleep(SETTLED_SECONDS)
            curve = [(0.0, resident(process))]
            while bound.created < count:
                await bound.start(min(WAVE, count - bound.created))
                curve.append((float(bound.created), resident(process)))
            await asyncio.sleep(SETTLED_SECONDS)
            full = resident(process)
        file = environment.logs / "loop-steps.json"
        program = loop_steps.program(file)
        async with operator_process(environment, [bound.namespace], program=program) as process:
            await asyncio.sleep(STARTED_SECONDS)
            longest = longest_steps(process.pid, file)
            again = resident(process)
            process.daemon.stop()
    return Live(curve[0][1], full, again, longest, curve)


# Bindings


async def of_bindings(environment: Environment, count: int) -> float:
    kube = environment.kube
    async with (
        namespace(kube) as name,
        stub(environment.logs) as server,
        operator_process(environment, [name]) as process,
    ):
        bindings = [Binding(kube, name, f"bench-{number}") for number in range(count)]
        try:
            for each in bindings:
                await each.apply(workPool={"name": each.name}, server={"url": server.url})
            await asyncio.gather(*(each.ready(seconds=2 * START_SECONDS) for each in bindings))
            await asyncio.sleep(SETTLED_SECONDS)
            return resident(process)
        finally:
            process.daemon.stop()
            await _gather(each.remove() for each in bindings)


# Ended runs


async def of_ended_runs(environment: Environment, count: int) -> list[Point]:
    """Return the MiB after each wave of runs, none of which has anything left."""
    async with (
        _bound(environment) as bound,
        operator_process(environment, [bound.namespace]) as process,
    ):
        await bound.serve()
        curve = []
        while bound.created < count:
            await bound.end(await bound.start(min(WAVE, count - bound.created), pods=WITH_PODS))
            await asyncio.sleep(SETTLED_SECONDS / 2)
            curve.append((float(bound.created), resident(process)))
            print(f"    {bound.created:,} ended runs: {curve[-1][1]:.1f} MiB", flush=True)
        process.daemon.stop()
        return curve


# Pods of others


@dataclass(frozen=True, slots=True)
class Idle:
    """Resident memory, and CPU milliseconds per second."""

    mib: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Others:
    """Without and with the pods of others; CPU milliseconds per second while they were created; MiB
    of a process that was started next to them."""

    before: Idle
    created: float
    next_to: Idle
    again: float


async def of_others(environment: Environment, count: int) -> Others:
    """Create pods without a node: half of them in the namespace of the Jobs, half in another."""
    kube = environment.kube
    async with _bound(environment) as bound, namespace(kube) as other:
        async with operator_process(environment, [bound.namespace]) as process:
            await bound.serve()
            await asyncio.sleep(STARTED_SECONDS)
            before = await _idle(process)
            began, used = time.monotonic(), Usage.of_process(process.pid).cpu_seconds
            for where in (bound.namespace, other):
                pods = (_pod_of_others(number) for number in range(count // 2))
                await _gather(kube.create("pods", where, pod) for pod in pods)
            used = Usage.of_process(process.pid).cpu_seconds - used
            created = 1000 * used / (time.monotonic() - began)
            await asyncio.sleep(SETTLED_SECONDS)
            next_to = await _idle(process)
        async with operator_process(environment, [bound.namespace]) as process:
            await asyncio.sleep(STARTED_SECONDS)
            again = resident(process)
            process.daemon.stop()
    return Others(before, created, next_to, again)


async def _idle(process: Operator) -> Idle:
    before, began = Usage.of_process(process.pid), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    after, seconds = Usage.of_process(process.pid), time.monotonic() - began
    return Idle(resident(process), 1000 * (after.cpu_seconds - before.cpu_seconds) / seconds)


def _pod_of_others(number: int) -> Object:
    """Return a pod for no scheduler, with labels such as a Deployment's pods have."""
    labels = {"app.kubernetes.io/name": "others", "app.kubernetes.io/instance": f"{number}"}
    container = {"name": "main", "image": "none", "env": [{"name": "A", "value": "x" * 500}]}
    spec = {"containers": [container], "schedulerName": "none"}
    return {"metadata": {"name": f"others-{number}", "labels": labels}, "spec": spec}


# One binding, its runs, and what the Job controller and the kubelet do with them


class Bound:
    """A binding of the stub's pool. `created` is the number of runs so far."""

    def __init__(self, binding: Binding, server: Stub, jobs: JobWatch) -> None:
        self._binding = binding
        self._kube, self.namespace = binding.kube, binding.namespace
        self._server, self._jobs = server, jobs
        self.created = 0

    async def serve(self) -> None:
        """Apply the binding; wait until it is Ready."""
        await self._binding.apply(workPool={"name": POOL}, server={"url": self._server.url})
        await self._binding.ready(seconds=START_SECONDS)

    async def remove(self) -> None:
        await self._binding.remove()

    async def start(self, count: int, *, pods: int | None = None) -> list[str]:
        """Queue runs, give their Jobs pods (only the first `pods` Jobs, unless it is None), and
        have them run; return their ids."""
        ids = await self._server.queue(POOL, count)
        self.created += count
        async with asyncio.timeout(WAVE_SECONDS):
            await self._jobs.count(self.created)
        await self._recorded()
        jobs = self._jobs.newest(count)
        sample = await self._kube.get("jobs", self.namespace, jobs[0]["name"])
        assert sample is not None
        spec = sample["spec"]["template"]["spec"]
        await _gather(create_pod(self._kube, job, spec) for job in jobs[:pods])
        await self._server.enter("RUNNING", POOL, ids)
        return ids

    async def end(self, ids: Sequence[str]) -> None:
        """End the newest runs. The operator deletes the Jobs without a pod; delete the others and
        their pods once their ends are reported."""
        await self._server.enter("COMPLETED", POOL, ids)
        jobs = self._jobs.newest(len(ids))
        with_pods, others = jobs[:WITH_PODS], jobs[WITH_PODS:]
        await _gather(complete(self._kube, job) for job in with_pods)
        for job in with_pods:
            await self._wait(job["name"], _is_reported)
        await self._wait(others[-1]["name"], lambda it: it is None)
        await poll(
            lambda: self._kube.list("jobs", self.namespace),
            until=lambda found: len(found) <= WITH_PODS,
            seconds=WAVE_SECONDS,
        )
        for plural in ("jobs", "pods"):
            await self._kube.delete_all(plural, self.namespace)

    async def _wait(self, job: str, until: Callable[[Object | None], bool]) -> None:
        await self._kube.wait("jobs", self.namespace, job, until=until, seconds=WAVE_SECONDS)

    async def _recorded(self) -> None:
        async def recorded() -> int:
            return len((await self._server.record()).recorded)

        await poll(recorded, until=lambda it: it >= self.created, seconds=WAVE_SECONDS)


def _is_reported(job: Object | None) -> bool:
    """The operator sets the TTL once the run's end is known."""
    return job is not None and "ttlSecondsAfterFinished" in job["spec"]


@asynccontextmanager
async def _bound(environment: Environment) -> AsyncIterator[Bound]:
    """Prepare a binding in a new namespace. An operator must have ended when the context ends."""
    kube = environment.kube
    async with (
        namespace(kube) as name,
        stub(environment.logs, job_spec=MANAGED_BY) as server,
        watch_jobs(kube, name) as jobs,
    ):
        bound = Bound(Binding(kube, name, "bench"), server, jobs)
        try:
            yield bound
        finally:
            await bound.remove()


async def _gather(calls: Iterable[Awaitable[Any]]) -> None:
    """Await all of them, a few at a time."""
    remaining = iter(calls)

    async def some() -> None:
        for call in remaining:
            await call

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


def resident(process: Operator) -> float:
    """Return the resident memory in MiB."""
    return Usage.of_process(process.pid).resident_bytes / MIB
