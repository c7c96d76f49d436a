"""`python -m benchmarks.metrics`: what the metrics cost, for a scrape and for a run, and what the
pod events of a run cost.

It needs neither cluster nor server. Times are CPU times of one core.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from uuid import UUID

from pydantic import TypeAdapter

from benchmarks import markdown
from tests.corpus import pods
from tests.support.cluster_cache import synced_cluster
from tests.support.controller import OWNER, OfflineController
from tests.support.snapshots import RUN_ID, job, pending, pod, record, run, state
from workpool_operator.binding.conditions import ORDER, ConditionState
from workpool_operator.binding.figures import BindingFigures
from workpool_operator.clock import SYSTEM_CLOCK
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.kube.models import (
    JOB_NAME_LABEL,
    RUN_LABEL,
    SERVER_ANNOTATION,
    Job,
    Pod,
)
from workpool_operator.metrics import Metrics
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.runs.pod_events import BATCH_SIZE, PodEvents
from workpool_operator.runs.progress import RunObserver
from workpool_operator.runs.store import RunRecord, RunStore

JOBS = 1000
BINDINGS = 100
SCRAPES = 20
RUNS = 2000
FINE = ConditionState("True", "Checked")
TYPES = ("Ready", "Claiming", *ORDER, "EventsConnected", "PoolShared", "RightsGranted")
WAITS = ("Pending", "Unschedulable", "ImagePullBackOff", "JobSuspended")


@dataclass(frozen=True, slots=True)
class Scrape:
    """The means of several scrapes: milliseconds on the event loop, and of all threads."""

    loop: float
    all: float
    size: int
    series: int


def main() -> None:
    asyncio.run(_measure())


async def _measure() -> None:
    one = await scrape([controller_with_jobs(JOBS)])
    many = await scrape([controller_with_jobs(JOBS // BINDINGS) for _ in range(BINDINGS)])
    rows = [["", "event loop", "all threads", "size", "series"]]
    for name, each in (
        (f"{JOBS} Jobs, 1 binding", one),
        (f"{JOBS} Jobs, {BINDINGS} bindings", many),
    ):
        times = [f"{each.loop:.1f} ms", f"{each.all:.1f} ms"]
        rows.append([name, *times, f"{each.size / 1024:.0f} KiB", str(each.series)])
    print(markdown.table(rows))
    without, counted = counting(None), counting(Metrics().runs_of("data", "etl"))
    print(f"\nfollowing a run: {without:.0f} µs, and {counted - without:.0f} µs to count it")
    print(
        f"its three pod events, with their share of a request's body: {await replicating():.0f} µs"
    )


async def scrape(controllers: list[OfflineController]) -> Scrape:
    """Scrape bindings whose runs wait for several reasons, and all of whose series exist."""
    metrics = Metrics(lambda: [figures(it, n) for n, it in enumerate(controllers)])
    for number in range(len(controllers)):
        fill(metrics.runs_of("data", f"binding-{number}"))
    began = time.thread_time()
    for _ in range(SCRAPES):
        tuple(metrics.gauges())
    loop = time.thread_time() - began
    began = time.process_time()
    for _ in range(SCRAPES):
        body, _ = await metrics.render("")
    taken = time.process_time() - began
    lines = [line for line in body.splitlines() if not line.startswith(b"#")]
    return Scrape(1000 * loop / SCRAPES, 1000 * taken / SCRAPES, len(body), len(lines))


def figures(controller: OfflineController, number: int) -> BindingFigures:
    in_flight = controller.in_flight()
    return BindingFigures(
        "data",
        f"binding-{number}",
        is_held=True,
        conditions=dict.fromkeys(TYPES, FINE),
        running=len(in_flight.running),
        suspended=len(in_flight.suspended),
        pending=controller.pending_by_reason(),
        queued={"AtCapacity": 7, "ClaimRefused": controller.deferred()},
        concurrency_limit=JOBS,
        poll_age=1.0,
        reconciler_queue=len(controller.queue),
    )


def fill(runs: RunObserver) -> None:
    """Have every series exist."""
    runs.claimed(RUN_ID, delay=0.1)
    runs.job_created(RUN_ID, delay=0.1)
    runs.started(RUN_ID, delay=2, since_due=3)
    runs.running(RUN_ID, delay=4)
    runs.crash_reported(RUN_ID, delay=1)
    for reason in ("OOMKilled", "Error", "Evicted"):
        runs.ended(RUN_ID, "CRASHED", reason)
        runs.job_refused(RUN_ID, "QuotaExceeded")


def controller_with_jobs(count: int) -> OfflineController:
    """Return a controller of runs none of which has started: that takes the most time."""
    cluster = synced_cluster(OWNER.namespace)
    controller = OfflineController(cluster=cluster)
    with cluster.subscribe(controller):
        for number in range(count):
            run_id = UUID(int=number)
            waiting = run(pending(name=WAITS[number % len(WAITS)]))
            controller.store.put(run_id, record(replace(waiting, id=run_id), mine="claim"))
            cluster.jobs.put(_job(run_id))
    return controller


def counting(observer: RunObserver | None) -> float:
    """Return the microseconds that it takes to follow the changes of one run from its offer to its
    end, without what causes them."""
    cluster = synced_cluster(OWNER.namespace)
    controller = OfflineController(cluster=cluster, observer=observer)
    runs = [_changes(controller.store, cluster, UUID(int=number)) for number in range(RUNS)]
    with cluster.subscribe(controller):
        began = time.thread_time()
        for changes in runs:
            for change in changes:
                change()
        return 1e6 * (time.thread_time() - began) / RUNS


async def replicating() -> float:
    """Return the microseconds that it takes to find out, make and encode the three events of a pod,
    without the requests."""
    sent = 0

    class Server:
        clock = SYSTEM_CLOCK

        async def write_events(self, events: list[dict[str, Any]]) -> None:
            nonlocal sent
            sent += len(events)
            json.dumps(events, separators=(",", ":")).encode()

    sender = PodEvents(OWNER, api=cast("PrefectApi", Server()), is_enabled=lambda: True)
    owned = job(annotations={SERVER_ANNOTATION: OWNER.server_url})
    owned = replace(owned, metadata=replace(owned.metadata, name=pods.LABELS[JOB_NAME_LABEL]))
    lives = [[_version(document, number) for document in LIFE] for number in range(RUNS)]
    began = time.thread_time()
    for number, life in enumerate(lives):
        for version in life:
            sender.update(UUID(int=number), [owned], [version], claimed_here=True)
    for _ in range(3 * RUNS // BATCH_SIZE + 1):
        await sender.flush()
    taken = time.thread_time() - began
    assert sent == 3 * RUNS
    return 1e6 * taken / RUNS


# A pod is modified more often than its phase changes.
LIFE = (
    pods.pod("Pending"),
    pods.pod("Pending", pods.waiting("ContainerCreating")),
    pods.pod("Running", pods.running()),
    pods.pod("Running", pods.ended(0, "Completed")),
    pods.pod("Succeeded", pods.ended(0, "Completed")),
)


def _version(document: dict[str, Any], number: int) -> Pod:
    made = _pods.validate_python(document)
    return replace(made, metadata=replace(made.metadata, uid=str(UUID(int=number))))


_pods = TypeAdapter(Pod)


def _changes(store: RunStore, cluster: ClusterCache, run_id: UUID) -> list[Callable[[], None]]:
    """Return the changes of one run, one after the other."""
    puts = [partial(store.put, run_id, each) for each in _records(run_id)]
    created = partial(cluster.jobs.put, _job(run_id))
    started = partial(cluster.pods.put, _pod(run_id))
    return [*puts[:6], created, puts[6], started, *puts[7:], partial(store.drop, run_id)]


def _records(run_id: UUID) -> list[RunRecord]:
    """Return what is known of a run, one after the other; as often as a real run changes it."""
    scheduled = record(replace(run(state("SCHEDULED")), id=run_id))
    claimed = record(replace(run(pending()), id=run_id), mine="claim")
    running = record(replace(run("RUNNING"), id=run_id), mine="claim")
    ended = record(replace(run("COMPLETED"), id=run_id), mine="claim")
    here = replace(claimed, claimed_here=True)
    recorded = replace(here, observed_name="job")
    return [
        *(scheduled, replace(scheduled, offered_at=1.0), claimed, here),
        *(replace(here, lease_renewed_at=1.0), recorded, replace(recorded, read_at=2.0)),
        *(running, replace(running, read_at=3.0), ended, replace(ended, read_at=4.0)),
    ]


def _job(run_id: UUID) -> Job:
    one = job()
    labels = {**one.spec.template.labels, RUN_LABEL: str(run_id)}
    template = replace(
        one.spec.template, metadata=replace(one.spec.template.metadata, labels=labels)
    )
    metadata = replace(one.metadata, uid=f"job-{run_id}")
    return replace(one, metadata=metadata, spec=replace(one.spec, template=template))


def _pod(run_id: UUID) -> Pod:
    one = pod(phase="Running")
    labels = {**one.metadata.labels, RUN_LABEL: str(run_id)}
    return replace(one, metadata=replace(one.metadata, uid=f"pod-{run_id}", labels=labels))


if __name__ == "__main__":
    main()
