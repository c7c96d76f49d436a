"""Measures single runs: they are created one after the other on an otherwise idle system.

The time of a run begins with the `created` that Prefect stamps and ends when a watch shows its Job;
both are clocks of this machine. Then the benchmark plays the flow: it reports the run Running and
Completed while the pod sleeps, and deletes the ended Job. Random pauses keep the runs out of step
with polls.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from benchmarks import claim_path, markdown
from benchmarks.claim_path import ClaimPath
from benchmarks.contenders import (
    CONTENDERS,
    Environment,
    Pool,
    Server,
    Start,
    pool,
    prefect_server,
)
from benchmarks.job_watch import JobWatch, watch_jobs
from benchmarks.pictures import Series, lines
from benchmarks.processes import Usage
from benchmarks.recording_proxy import Call, RecordingProxy
from benchmarks.statistics import OURS, STOCK, Figure, Result, nearest_rank
from localnode import progress
from localnode.errors import SetupError
from testbed import images
from tests.support.kube import Object
from tests.support.prefect import stock_template

JOB_SECONDS = 60
END_SECONDS = 90
PAUSE_SECONDS = 10.0  # the poll interval of both contenders
IDLE_SECONDS = 30.0
#: A pod that starts and ends without Prefect: its import would load the machine for seconds.
COMMAND = "sleep 2"
FLOW_SECONDS = 1.0  # from Running to Completed
REACTION_SECONDS = 1.0  # for the contender to react to the Job's end


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; with one seed both contenders get the same pauses."""

    runs: int = 30
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds from its creation until its Job was seen, CPU seconds until its Job was
    recorded, and the machine's load (1 min)."""

    seconds: float
    dispatch_seconds: float
    dispatch_cpu_seconds: float
    path: ClaimPath
    load: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """The runs of one contender, and what its program used meanwhile."""

    samples: tuple[Sample, ...]
    resident_bytes: int
    idle_cpu_share: float
    cpu_seconds: float
    seconds: float

    @property
    def runs(self) -> int:
        return len(self.samples)

    def percentile(self, share: float) -> float:
        """By nearest rank: a measured value; of 30 samples p99 is the highest."""
        return nearest_rank([sample.seconds for sample in self.samples], share)

    @property
    def calls(self) -> list[int]:
        """Requests to Prefect on each run's claim path."""
        return [sample.path.counted.total() for sample in self.samples]

    @property
    def load(self) -> float:
        return statistics.median(sample.load for sample in self.samples)

    @property
    def cpu_seconds_per_run(self) -> float:
        """Without what the idle program uses in the same time."""
        return (self.cpu_seconds - self.idle_cpu_share * self.seconds) / self.runs

    @property
    def cpu_seconds_per_dispatch(self) -> float:
        """From the creation of a run until its Job is recorded, without what idle takes."""
        return statistics.mean(
            sample.dispatch_cpu_seconds - self.idle_cpu_share * sample.dispatch_seconds
            for sample in self.samples
        )


async def measure(
    environment: Environment, plan: Plan, names: Sequence[str] = (OURS, STOCK)
) -> Result:
    """Measure each contender."""
    measured = {}
    async with prefect_server(environment) as server:
        for name in names:
            with progress.step(f"{name}: {plan.runs} runs, one after the other"):
                measured[name] = await of_contender(CONTENDERS[name], server, name=name, plan=plan)
    return Result(
        "Single runs",
        figures(measured),
        "\n\n".join(_text(measured, plan.runs)),
        {"benchmark-latency.svg": picture(measured)},
    )


async def of_contender(start: Start, server: Server, *, name: str, plan: Plan) -> Measurement:
    """Start the contender, warm it up with one run, and measure the plan's runs."""
    image = images.run_image(server.environment.cluster)
    variables = {"image": image, "image_pull_policy": "IfNotPresent", "command": COMMAND}
    async with (
        pool(server, template=stock_template(), **variables) as own,
        start(own) as contender,
        watch_jobs(server.environment.kube, own.namespace) as jobs,
    ):
        await contender.serve()
        pid = contender.pid
        await _run(own, jobs, pid)
        idle = await _cpu_share(pid, IDLE_SECONDS)
        before, began = Usage.of_session(pid), time.monotonic()
        samples = await _runs(own, jobs, pid, name=name, plan=plan)
        after, seconds = Usage.of_session(pid), time.monotonic() - began
    return Measurement(
        samples=tuple(samples),
        resident_bytes=after.resident_bytes,
        idle_cpu_share=idle,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        seconds=seconds,
    )


async def _runs(own: Pool, jobs: JobWatch, pid: int, *, name: str, plan: Plan) -> list[Sample]:
    pauses = random.Random(plan.seed)
    samples = []
    for number in range(1, plan.runs + 1):
        await asyncio.sleep(pauses.uniform(0, PAUSE_SECONDS))
        samples.append(await _run(own, jobs, pid))
        print(f"    {name}: run {number}: {samples[-1].seconds:.3f} s", flush=True)
    return samples


async def _run(own: Pool, jobs: JobWatch, pid: int) -> Sample:
    """Measure one run, and wait until its Job is gone."""
    server = own.server
    server.proxy.forget()
    before, began = Usage.of_process(pid), time.monotonic()
    run = await server.api.create_run(own.deployment["id"])
    try:
        async with asyncio.timeout(JOB_SECONDS):
            seen = await jobs.first(run["id"])
            await _recorded(server.proxy, run["id"])
    except TimeoutError:
        raise SetupError(f"run {run['id']} has no recorded Job after {JOB_SECONDS} s") from None
    after, seconds = Usage.of_process(pid), time.monotonic() - began
    calls = claim_path.of_run(server.proxy.calls, run["id"])
    await _end(own, run)
    created = datetime.fromisoformat(run["created"]).timestamp()
    return Sample(
        seconds=seen - created,
        dispatch_seconds=seconds,
        dispatch_cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        path=calls,
        load=os.getloadavg()[0],
    )


async def _recorded(proxy: RecordingProxy, run_id: str) -> None:
    """Wait until the name of the run's Job is in Prefect."""
    changed = asyncio.Event()

    def listen(_: Call) -> None:
        changed.set()

    proxy.listeners.append(listen)
    try:
        while not any(claim_path.records_job(call, run_id) for call in proxy.of(run_id)):
            changed.clear()
            await changed.wait()
    finally:
        proxy.listeners.remove(listen)


async def _end(own: Pool, run: Object) -> None:
    """Report what a flow reports from its pod; delete the Job that has ended, to free the node."""
    api, kube = own.server.api, own.server.environment.kube
    pid = (await api.read_run(run["id"]))["infrastructure_pid"]
    job = pid.rpartition(":")[2]
    await kube.wait("jobs", own.namespace, job, until=_has_started, seconds=END_SECONDS)
    await api.set_state(run["id"], "RUNNING")
    await asyncio.sleep(FLOW_SECONDS)
    await api.set_state(run["id"], "COMPLETED")
    await kube.wait("jobs", own.namespace, job, until=_has_ended, seconds=END_SECONDS)
    await asyncio.sleep(REACTION_SECONDS)
    await kube.delete("jobs", own.namespace, job)
    await kube.wait("jobs", own.namespace, job, until=lambda it: it is None, seconds=END_SECONDS)


def _has_started(job: Object | None) -> bool:
    """Return whether the Job's pod runs, or is over."""
    return bool((job or {}).get("status", {}).get("ready")) or _has_ended(job)


def _has_ended(job: Object | None) -> bool:
    conditions = (job or {}).get("status", {}).get("conditions", [])
    ended = any(it["type"] in ("Complete", "Failed") for it in conditions)
    return job is None or ended


async def _cpu_share(leader: int, seconds: float) -> float:
    """Return the CPU seconds per second while nothing happens."""
    before, began = Usage.of_session(leader), time.monotonic()
    await asyncio.sleep(seconds)
    spent = Usage.of_session(leader).cpu_seconds - before.cpu_seconds
    return spent / (time.monotonic() - began)


# The report


def figures(measured: Mapping[str, Measurement]) -> list[Figure]:
    """Return the rows of the table."""

    def row(
        name: str, of: Callable[[Measurement], float], unit: str, digits: int, at_most: float | None
    ) -> Figure:
        ours, stock = (of(measured[each]) if each in measured else None for each in (OURS, STOCK))
        return Figure(name, ours, stock, unit=unit, digits=digits, at_most=at_most)

    return [
        row("run created -> Job, p50", lambda it: it.percentile(0.50), "s", 2, 0.5),
        row("run created -> Job, p99", lambda it: it.percentile(0.99), "s", 2, 2.0),
        row("run created -> Job, slowest", lambda it: it.percentile(1), "s", 2, None),
        row("Prefect calls per run, at most", lambda it: max(it.calls), "calls", 0, 4),
        row("Prefect calls per run, mean", lambda it: statistics.mean(it.calls), "calls", 2, None),
        row("CPU time per run", lambda it: 1000 * it.cpu_seconds_per_run, "ms", 0, 20),
        row(
            "of which until its Job is recorded",
            lambda it: 1000 * it.cpu_seconds_per_dispatch,
            "ms",
            1,
            8,
        ),
        row("CPU when idle", lambda it: 1000 * it.idle_cpu_share, "ms/s", 1, 2),
        row("resident memory", lambda it: it.resident_bytes / 2**20, "MiB", 0, None),
        row("load of the machine meanwhile", lambda it: it.load, "", 1, None),
    ]


def _text(measured: Mapping[str, Measurement], runs: int) -> Iterator[str]:
    rank = "the slowest one" if runs < 100 else "a measured value"
    yield (
        f"{runs} runs, one after the other, after one that is not counted. Percentiles are by"
        f" nearest rank, so that p99 is {rank}. CPU time per run is what the program used"
        " beyond its idle use, for the whole life of a run."
    )
    for name, each in measured.items():
        yield f"Prefect calls of a run, {name}:"
        yield markdown.numbers(claim_path.per_run([it.path.counted for it in each.samples]))
        yield "Not counted, from the same time:"
        yield markdown.numbers(claim_path.per_run([it.path.not_counted for it in each.samples]))


def picture(measured: Mapping[str, Measurement]) -> str:
    """Draw the share of the runs that had their Job by a time."""

    def curve(of: Measurement) -> list[tuple[float, float]]:
        times = sorted(sample.seconds for sample in of.samples)
        return [(at, 100 * (n + 1) / len(times)) for n, at in enumerate(times)]

    return lines(
        "From a run's creation to its Job",
        [Series(name, curve(each)) for name, each in measured.items()],
        x="seconds since the run was created (s, logarithmic)",
        y="runs with a Job (%)",
        log_x=True,
    )
