"""Measures how long a run of an idle binding waits for its Job, next to another binding of the same
process that is busy or in difficulties.

Each binding has a stub of Prefect of its own, so that they share only the operator, the Kubernetes
API and this machine.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from benchmarks import loop_steps
from benchmarks.contenders import START_SECONDS, Environment, namespace, operator_process
from benchmarks.job_watch import JobWatch, watch_jobs
from benchmarks.loop_steps import Longest, longest_steps
from benchmarks.pictures import Series, lines
from benchmarks.statistics import Figure, Result, nearest_rank
from benchmarks.stub_process import Stub, stub
from localnode import progress
from localnode.errors import SetupError
from tests.support.binding import Binding
from tests.support.kube import Kube

POOL = "bench"
JOB_SECONDS = 60
QUEUED = 5000
PAUSE_SECONDS = (0.3, 0.5)  # an event starts a poll at most four times per second
MORE_SECONDS = 0.1  # the most that the p99 may be above that of the binding alone
SLOW_SECONDS, NEVER_SECONDS = 30.0, 3600.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The other binding, Ready and without runs, in a namespace of its own."""

    kube: Kube
    namespace: str
    server: Stub


#: Puts the neighbour into its state.
State = Callable[[Neighbour], Awaitable[None]]


async def busy(neighbour: Neighbour) -> None:
    await neighbour.server.queue(POOL, QUEUED)


async def slow(neighbour: Neighbour) -> None:
    await busy(neighbour)
    await neighbour.server.answer_after(SLOW_SECONDS)


async def silent(neighbour: Neighbour) -> None:
    await busy(neighbour)
    await neighbour.server.answer_after(NEVER_SECONDS)


async def refused(neighbour: Neighbour) -> None:
    quota = {"metadata": {"name": "no-jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    await neighbour.kube.create("resourcequotas", neighbour.namespace, quota)
    await busy(neighbour)


#: By what the figures say of it; alone comes first.
STATES: Mapping[str, State | None] = {
    "alone": None,
    f"next to {QUEUED:,} queued runs": busy,
    "next to a server that answers in 30 s": slow,
    "next to a server that does not answer": silent,
    "next to a binding whose Jobs are refused": refused,
}


async def measure(environment: Environment, *, runs: int = 100) -> Result:
    """Measure the idle binding alone and next to each neighbour."""
    waited, steps = {}, {}
    for name, state in STATES.items():
        with progress.step(f"{runs} runs, one after the other, {name}"):
            waited[name], steps[name] = await of_idle_binding(environment, state, runs=runs)
    alone = nearest_rank(waited["alone"], 0.99)
    return Result(
        "An idle binding's runs, with a stub of Prefect that answers in 5 ms",
        [
            Figure(
                f"run created -> Job, p99, {name}",
                nearest_rank(seconds, 0.99),
                unit="s",
                digits=2,
                at_most=None if name == "alone" else round(alone + MORE_SECONDS, 2),
            )
            for name, seconds in waited.items()
        ]
        + [
            Figure(
                f"longest step of the loop, {name}", 1000 * each.cpu_seconds, unit="ms of CPU time"
            )
            for name, each in steps.items()
        ],
        f"{runs} runs of the idle binding, one after the other, with random pauses of"
        f" {PAUSE_SECONDS[0]:g} to {PAUSE_SECONDS[1]:g} s. Both bindings are served by one process,"
        " each has a stub of Prefect and a namespace of its own, and Jobs are suspended. The"
        f" neighbour has {QUEUED:,} queued runs. Next to it p99 may be {MORE_SECONDS:g} s longer.",
        {"benchmark-fairness.svg": picture(waited)},
    )


async def of_idle_binding(
    environment: Environment, state: State | None, *, runs: int
) -> tuple[list[float], Longest]:
    """Return the seconds from each run's creation to its Job, and the longest steps meanwhile."""
    file = environment.logs / "loop-steps.json"
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        own, other = [await enter(namespace(environment.kube)) for _ in range(2)]
        server = await enter(stub(environment.logs))
        process = await enter(
            operator_process(environment, [own, other], program=loop_steps.program(file))
        )
        await enter(_binding(environment.kube, own, server))
        jobs = await enter(watch_jobs(environment.kube, own))
        if state is not None:
            neighbour = Neighbour(environment.kube, other, await enter(stub(environment.logs)))
            await enter(_binding(environment.kube, other, neighbour.server))
            await state(neighbour)
        stack.callback(process.daemon.stop)  # before its bindings are removed
        longest_steps(process.pid, file)  # forgets those of the start
        return await _waited(server, jobs, runs), longest_steps(process.pid, file)


@asynccontextmanager
async def _binding(kube: Kube, namespace: str, server: Stub) -> AsyncIterator[None]:
    binding = Binding(kube, namespace, "bench")
    await binding.apply(workPool={"name": POOL}, server={"url": server.url})
    try:
        await binding.ready(seconds=START_SECONDS)
        yield
    finally:
        await binding.remove()


async def _waited(server: Stub, jobs: JobWatch, runs: int) -> list[float]:
    pauses, waited = random.Random(1), []
    for _ in range(runs):
        await asyncio.sleep(pauses.uniform(*PAUSE_SECONDS))
        began = time.time()
        (run_id,) = await server.queue(POOL, 1)
        try:
            async with asyncio.timeout(JOB_SECONDS):
                waited.append(await jobs.first(run_id) - began)
        except TimeoutError:
            raise SetupError(f"run {run_id} has no Job after {JOB_SECONDS} s") from None
    return waited


def picture(waited: Mapping[str, Sequence[float]]) -> str:
    """Draw the share of the runs that had their Job by a time."""

    def curve(seconds: Sequence[float]) -> list[tuple[float, float]]:
        return [(at, 100 * (n + 1) / len(seconds)) for n, at in enumerate(sorted(seconds))]

    return lines(
        "From a run's creation to its Job, in an idle binding",
        [Series(name, curve(seconds)) for name, seconds in waited.items()],
        x="seconds since the run was created (s, logarithmic)",
        y="runs with a Job (%)",
        log_x=True,
    )
