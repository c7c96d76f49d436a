"""Measures one contender: runs are created one after the other on an otherwise idle system.

The time of a run begins with the `created` that Prefect stamps and ends when a watch shows its Job;
both are clocks of this machine. Then the benchmark plays the flow: it reports the run Completed
while the pod sleeps, and deletes the ended Job. Random pauses keep the runs out of step with polls.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks import claim_path
from benchmarks.contenders import Contender, Environment, Pool, pool
from benchmarks.statistics import Measurement, Sample
from localnode.errors import SetupError
from tests.support.fault_proxy import wait_for_thread
from tests.support.kube import Kube, Object, path

JOB_SECONDS = 60
END_SECONDS = 90
PAUSE_SECONDS = 10.0  # the poll interval of both contenders
IDLE_SECONDS = 30.0
WATCH_SECONDS = 7200
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; with one seed both contenders get the same pauses."""

    runs: int
    seed: int


async def measure(
    contender: Contender, environment: Environment, *, name: str, plan: Plan
) -> Measurement:
    """Start the contender, warm it up with one run, and measure the plan's runs."""
    async with (
        pool(environment) as own,
        contender(own) as pid,
        watch_jobs(environment.kube, own.namespace) as jobs,
    ):
        await _run(own, jobs)
        idle = await _cpu_share(pid, IDLE_SECONDS)
        before, began = Usage.of_session(pid), time.monotonic()
        samples = await _runs(own, jobs, name=name, plan=plan)
        after, seconds = Usage.of_session(pid), time.monotonic() - began
    return Measurement(
        name=name,
        samples=tuple(samples),
        resident_bytes=after.resident_bytes,
        idle_cpu_share=idle,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        seconds=seconds,
    )


class JobWatch:
    """When each Job of a namespace was first seen; its own creationTimestamp has whole seconds.

    The time is that of this process when the line of the watch has arrived: never too early.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[float, str]] = []
        self._ended = False
        self._changed = asyncio.Event()

    async def follow(self, kube: Kube, namespace: str) -> None:
        """Record every line of the watch until it ends."""
        query: dict[str, Any] = {"watch": "true", "timeoutSeconds": WATCH_SECONDS}
        jobs = path("jobs", namespace)
        try:
            async with kube.http.stream("GET", jobs, params=query, timeout=None) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    self._seen.append((time.time(), line))
                    self._changed.set()
        finally:
            self._ended = True
            self._changed.set()

    async def first(self, run_id: str) -> float:
        """Wait for the run's Job, and return when it was first seen."""
        while (found := self._find(run_id)) is None:
            if self._ended:
                raise SetupError("the watch of Jobs ended: the API server is gone or restarted")
            self._changed.clear()
            await self._changed.wait()
        return found

    def _find(self, run_id: str) -> float | None:
        """A Job has the id of its run in several places."""
        return next((seen for seen, line in self._seen if run_id in line), None)


@asynccontextmanager
async def watch_jobs(kube: Kube, namespace: str) -> AsyncIterator[JobWatch]:
    """Follow the namespace's Jobs inside the context."""
    jobs = JobWatch()
    watch = asyncio.create_task(jobs.follow(kube, namespace))
    try:
        yield jobs
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await watch


@dataclass(frozen=True, slots=True)
class Usage:
    """What the kernel counts: CPU seconds since the start, user and system; resident memory now."""

    cpu_seconds: float
    resident_bytes: int

    @classmethod
    def of_session(cls, leader: int) -> Usage:
        """Add up all processes in the session that `leader` leads."""
        ticks = pages = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                # The program's name comes first, in brackets, and may contain anything.
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(stat[3]) == leader:
                    ticks += int(stat[11]) + int(stat[12])
                    pages += int(stat[21])
        return cls(ticks / TICKS_PER_SECOND, pages * PAGE_BYTES)


async def _runs(own: Pool, jobs: JobWatch, *, name: str, plan: Plan) -> list[Sample]:
    pauses = random.Random(plan.seed)
    samples = []
    for number in range(1, plan.runs + 1):
        await asyncio.sleep(pauses.uniform(0, PAUSE_SECONDS))
        samples.append(await _run(own, jobs))
        print(f"    {name}: run {number}: {samples[-1].seconds:.3f} s", flush=True)
    return samples


async def _run(own: Pool, jobs: JobWatch) -> Sample:
    """Measure one run, and wait until its Job is gone."""
    shared = own.environment
    shared.proxy.forget()
    run = await shared.api.create_run(own.deployment["id"])
    try:
        async with asyncio.timeout(JOB_SECONDS):
            seen = await jobs.first(run["id"])
            await wait_for_thread(lambda: _is_recorded(shared, run["id"]))
    except TimeoutError:
        raise SetupError(
            f"run {run['id']} has no recorded Job after {JOB_SECONDS} s\n  logs: {shared.logs}"
        ) from None
    calls = claim_path.of_run(shared.proxy.calls(), run["id"])
    await _end(own, run)
    created = datetime.fromisoformat(run["created"]).timestamp()
    return Sample(seconds=seen - created, path=calls, load=os.getloadavg()[0])


def _is_recorded(shared: Environment, run_id: str) -> bool:
    return any(claim_path.records_job(call, run_id) for call in shared.proxy.calls(run_id))


async def _end(own: Pool, run: Object) -> None:
    """End the run as a flow does: its state, then its pod; delete the Job to free the node."""
    api, kube = own.environment.api, own.environment.kube
    await api.set_state(run["id"], "COMPLETED")
    pid = (await api.read_run(run["id"]))["infrastructure_pid"]
    job = pid.rpartition(":")[2]
    await kube.wait("jobs", own.namespace, job, until=_has_ended, seconds=END_SECONDS)
    await kube.delete("jobs", own.namespace, job)
    await kube.wait("jobs", own.namespace, job, until=lambda it: it is None, seconds=END_SECONDS)


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
