"""Measures what the operator can do if Prefect's server is not the bottleneck.

A stub answers Prefect's calls after 5 ms, in a process of its own; the Kubernetes API is the real
one, on this machine, and the Jobs are suspended. First runs arrive at a steady rate, then thousands
are queued at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import markdown
from benchmarks.contenders import START_SECONDS, Environment, namespace, operator_process
from benchmarks.job_watch import JobWatch, watch_jobs
from benchmarks.pictures import Series, lines
from benchmarks.processes import Machine
from benchmarks.statistics import OURS, Figure, Result, nearest_rank
from benchmarks.stub_process import Stub, stub
from localnode import progress
from localnode.errors import SetupError
from tests.support.binding import Binding
from tests.support.polling import poll

POOL = "bench"
TICK_SECONDS = 0.1
LATE_SECONDS = 60.0  # for the last Job after the last run arrived
QUEUED_SECONDS = 100.0
PROMISED_RATE = 50
SHARE_OF_RATE = 0.97  # the last Jobs come after the last runs


@dataclass(frozen=True, slots=True)
class Plan:
    """So many runs per second for `seconds`; then `queued` runs at once, if there are any."""

    rates: Sequence[int]
    queued: int
    seconds: int = 60


@dataclass(frozen=True, slots=True)
class Load:
    """`created` are the seconds from the first arrival to each Job, `late` those from a run's
    arrival to its Job; CPU seconds are per run."""

    created: Sequence[float]
    late: Sequence[float]
    cpu_seconds: Mapping[str, float]
    others_share: float
    calls: Mapping[str, float]

    @property
    def runs(self) -> int:
        return len(self.created)

    @property
    def seconds(self) -> float:
        return self.created[-1]


async def measure(environment: Environment, plan: Plan) -> Result:
    """Measure each rate, and the queue, each with a new operator in a new namespace."""
    arrivals = {f"{rate} runs per second": [rate] * plan.seconds for rate in plan.rates}
    if plan.queued:
        arrivals[f"{plan.queued:,} queued runs"] = [plan.queued]
    loads = {}
    for name, per_second in arrivals.items():
        with progress.step(name):
            loads[name] = await of_arrivals(environment, per_second)
    return Result(
        "Load, with a stub of Prefect that answers in 5 ms",
        [each for name, load in loads.items() for each in _figures(name, load, arrivals[name])],
        _text(loads),
        {"benchmark-load.svg": picture(loads)},
    )


async def of_arrivals(environment: Environment, per_second: Sequence[int]) -> Load:
    """Let runs arrive, evenly within each second (all at once if it is only one), and wait until
    each has its Job."""
    async with (
        namespace(environment.kube) as name,
        stub(environment.logs) as server,
        operator_process(environment, [name]) as process,
        watch_jobs(environment.kube, name) as jobs,
    ):
        binding = Binding(environment.kube, name, "bench")
        await binding.apply(workPool={"name": POOL}, server={"url": server.url})
        try:
            await binding.ready(seconds=START_SECONDS)
            return await _load(server, jobs, process.pid, per_second)
        finally:
            process.daemon.stop()
            await binding.remove()


async def _load(server: Stub, jobs: JobWatch, pid: int, per_second: Sequence[int]) -> Load:
    machine = Machine({OURS: pid, "the stub of Prefect": server.pid})
    before = machine.usage()
    calls_before = (await server.record()).calls
    began = time.time()
    arrived = await _arrive(server, per_second)
    runs = len(arrived)
    try:
        async with asyncio.timeout(LATE_SECONDS + QUEUED_SECONDS):
            seen = await jobs.count(runs)
            record = await poll(server.record, until=lambda it: len(it.recorded) == runs)
    except TimeoutError:
        raise SetupError(f"{len(jobs.seen)} of {runs} runs have a Job") from None
    used = machine.usage() - before
    return Load(
        created=[at - began for at in seen],
        # Runs are claimed in the order of their arrival, so that the nth Job is the nth run's.
        late=[at - arrival for at, arrival in zip(seen, arrived, strict=True)],
        cpu_seconds={program: seconds / runs for program, seconds in used.cpu_seconds.items()},
        others_share=used.others_share,
        calls={
            call: (count - calls_before.get(call, 0)) / runs for call, count in record.calls.items()
        },
    )


async def _arrive(server: Stub, per_second: Sequence[int]) -> list[float]:
    """Queue the runs; return when each had arrived."""
    arrived: list[float] = []
    if len(per_second) == 1:
        await server.queue(POOL, per_second[0])
        return [time.time()] * per_second[0]
    began = time.monotonic()
    due = 0.0
    for second, rate in enumerate(per_second):
        for tick in range(round(1 / TICK_SECONDS)):
            due += rate * TICK_SECONDS
            count = int(due) - len(arrived)
            await server.queue(POOL, count)
            arrived += [time.time()] * count
            until = began + second + (tick + 1) * TICK_SECONDS
            await asyncio.sleep(max(0.0, until - time.monotonic()))
    return arrived


# The report


def _figures(name: str, load: Load, per_second: Sequence[int]) -> list[Figure]:
    if len(per_second) == 1:
        first = Figure(f"{name}: all Jobs after", load.seconds, unit="s", at_most=QUEUED_SECONDS)
    else:
        late = nearest_rank(load.late, 0.99)
        first = Figure(f"{name}: run -> Job, p99", late, unit="s", digits=2)
    least = SHARE_OF_RATE * PROMISED_RATE if per_second[0] == PROMISED_RATE else None
    return [
        first,
        Figure(f"{name}: Jobs per second", load.runs / load.seconds, digits=1, at_least=least),
        Figure(f"{name}: CPU time per run", 1000 * load.cpu_seconds[OURS], unit="ms", digits=1),
        Figure(f"{name}: Prefect calls per run", sum(load.calls.values()), unit="calls", digits=2),
    ]


def _text(loads: Mapping[str, Load]) -> str:
    programs = [["CPU time per run", *loads]]
    for program in next(iter(loads.values())).cpu_seconds:
        values = (each.cpu_seconds.get(program, 0.0) for each in loads.values())
        programs.append([program, *(f"{1000 * value:.1f} ms" for value in values)])
    others = (f"{each.others_share:.0%} of the machine" for each in loads.values())
    programs.append(["other programs", *others])
    calls = [["Prefect calls per run", *loads]]
    for call in sorted({call for each in loads.values() for call in each.calls}):
        counts = (each.calls.get(call, 0.0) for each in loads.values())
        calls.append([call, *(f"{count:.3f}" for count in counts)])
    return "\n\n".join(
        [
            "Prefect is a stub that answers each call after 5 ms; the Kubernetes API is the real"
            " one; Jobs are suspended. All processes share this machine.",
            markdown.table(programs),
            markdown.table(calls),
        ]
    )


def picture(loads: Mapping[str, Load]) -> str:
    """Draw the number of Jobs over time."""
    return lines(
        "Jobs over time, with a stub of Prefect",
        [Series(name, _curve(each)) for name, each in loads.items()],
        x="seconds since the first run arrived (s)",
        y="Jobs created",
    )


def _curve(load: Load) -> list[tuple[float, float]]:
    """Return at most 200 of its points."""
    every = max(1, load.runs // 200)
    points = [(at, n + 1.0) for n, at in enumerate(load.created)]
    return [(0.0, 0.0), *points[::every], points[-1]]
