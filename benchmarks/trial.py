"""One side, measured: runs are created one after the other on an otherwise idle system.

A run's time begins with the `created` that Prefect stamps and ends when a watch shows its Job; both
are clocks of this machine. Then the bench plays the flow: it reports the run Completed while the
pod sleeps, and deletes the ended Job. A random pause keeps the runs out of step with any poll.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from datetime import datetime

from benchmarks import calls, usage
from benchmarks.arrivals import Arrivals, watched
from benchmarks.figures import Sample, Trial
from benchmarks.ground import Ground, prepared
from benchmarks.sides import Side
from benchmarks.site import Site
from localnode.errors import SetupError
from tests.support.fault_proxy import wait_for_thread
from tests.support.kube import Object

JOB_SECONDS = 60
END_SECONDS = 90
PAUSE_SECONDS = 10.0  # the poll interval of both sides
IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; one seed gives both sides the same pauses."""

    runs: int
    seed: int


async def measure(side: Side, site: Site, *, name: str, plan: Plan) -> Trial:
    """Starts the side, warms it up with one run, and measures the plan's runs."""
    async with (
        prepared(site) as ground,
        side(ground) as pid,
        watched(site.kube, ground.namespace) as arrivals,
    ):
        await _run(ground, arrivals)
        idle = await _cpu_share(pid, IDLE_SECONDS)
        before, began = usage.of_session(pid), time.monotonic()
        samples = await _runs(ground, arrivals, name=name, plan=plan)
        after, seconds = usage.of_session(pid), time.monotonic() - began
    return Trial(
        name=name,
        samples=tuple(samples),
        resident_bytes=after.resident_bytes,
        idle_cpu_share=idle,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        seconds=seconds,
    )


async def _runs(ground: Ground, arrivals: Arrivals, *, name: str, plan: Plan) -> list[Sample]:
    pauses = random.Random(plan.seed)
    samples = []
    for number in range(1, plan.runs + 1):
        await asyncio.sleep(pauses.uniform(0, PAUSE_SECONDS))
        samples.append(await _run(ground, arrivals))
        print(f"    {name}: run {number}: {samples[-1].seconds:.3f} s", flush=True)
    return samples


async def _run(ground: Ground, arrivals: Arrivals) -> Sample:
    """One run, from its creation until nothing is left of its Job."""
    site = ground.site
    site.proxy.forget()
    run = await site.api.create_run(ground.deployment["id"])
    try:
        async with asyncio.timeout(JOB_SECONDS):
            seen = await arrivals.first(run["id"])
            await wait_for_thread(lambda: _is_recorded(site, run["id"]))
    except TimeoutError:
        raise SetupError(
            f"run {run['id']} has no recorded Job after {JOB_SECONDS} s\n  logs: {site.logs}"
        ) from None
    path = calls.claim_path(site.proxy.calls(), run["id"])
    await _end(ground, run)
    created = datetime.fromisoformat(run["created"]).timestamp()
    return Sample(seconds=seen - created, path=path, load=os.getloadavg()[0])


def _is_recorded(site: Site, run_id: str) -> bool:
    return any(calls.records_job(call, run_id) for call in site.proxy.calls(run_id))


async def _end(ground: Ground, run: Object) -> None:
    """As a flow ends: its state first, then its pod; the Job is deleted to free the node."""
    site, namespace = ground.site, ground.namespace
    await site.api.set_state(run["id"], "COMPLETED")
    pid = (await site.api.read_run(run["id"]))["infrastructure_pid"]
    job = pid.rpartition(":")[2]
    await site.kube.wait("jobs", namespace, job, until=_has_ended, seconds=END_SECONDS)
    await site.kube.delete("jobs", namespace, job)
    await site.kube.wait("jobs", namespace, job, until=lambda it: it is None, seconds=END_SECONDS)


def _has_ended(job: Object | None) -> bool:
    conditions = (job or {}).get("status", {}).get("conditions", [])
    ended = any(it["type"] in ("Complete", "Failed") for it in conditions)
    return job is None or ended


async def _cpu_share(leader: int, seconds: float) -> float:
    """Processor seconds per second while nothing happens."""
    before, began = usage.of_session(leader), time.monotonic()
    await asyncio.sleep(seconds)
    spent = usage.of_session(leader).cpu_seconds - before.cpu_seconds
    return spent / (time.monotonic() - began)
