"""What is in flight, and what keeps runs from being claimed, follows every change of the store and
of the cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.cluster_cache import synced_cluster
from tests.support.controller import OWNER, OfflineController
from tests.support.snapshots import RUN_ID, id_of, job, pending, pod, record, run, state
from workpool_operator.jobs.diagnosis import WaitReason
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.settings import PollSettings
from workpool_operator.runs.store import NEVER

ANY = PollSettings()
QUOTA = WaitReason("QuotaExceeded", "", quota="few, requested: pods=1, used: pods=3")


class Bench(Listener):
    """A controller that follows every change of its cache."""

    def __init__(self) -> None:
        self.freed = 0
        self.cluster = synced_cluster(OWNER.namespace)
        self.controller = OfflineController(cluster=self.cluster, listener=self)
        self.store = self.controller.store

    def capacity_freed(self) -> None:
        self.freed += 1

    @property
    def counts(self) -> tuple[int, int]:
        in_flight = self.controller.in_flight()
        return in_flight.slots, in_flight.pending_pods


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.cluster.subscribe(bench.controller):
        yield bench
    bench.controller.queue.close()


async def test_a_run_is_counted_from_its_offer_until_its_job_and_pods_have_ended(
    bench: Bench,
) -> None:
    bench.controller.offer(run(state("SCHEDULED")), read_at=time.monotonic())
    assert bench.counts == (1, 1)
    bench.store.put(RUN_ID, record(run(pending()), mine="claim"))
    assert bench.counts == (1, 1)
    bench.cluster.jobs.put(job())
    bench.cluster.pods.put(pod(version="2"))
    assert (bench.counts, bench.freed) == ((1, 1), 1)  # it has its pod
    bench.cluster.pods.put(pod(phase="Running", version="3"))
    assert (bench.counts, bench.freed) == ((1, 0), 2)
    bench.store.apply(RUN_ID, run("COMPLETED"), asked_at=time.monotonic())
    bench.cluster.pods.put(pod(phase="Succeeded", exit_code=0, version="4"))
    assert bench.counts == (1, 0)
    bench.cluster.jobs.put(job(ended="Complete", version="2"))
    assert bench.counts == (0, 0)
    bench.store.drop(RUN_ID)
    assert bench.counts == (0, 0)


async def test_a_run_that_waits_for_a_quota_holds_claims_until_it_is_forgotten(
    bench: Bench,
) -> None:
    waiting = record(run(pending()), mine="claim", refusal=QUOTA)
    bench.store.put(RUN_ID, waiting)
    assert bench.controller.free_slots(ANY) == 0
    shortage = bench.controller.shortage(ANY)
    assert shortage is not None
    assert shortage.reason == "QuotaExceeded"
    bench.store.drop(RUN_ID)
    assert bench.controller.free_slots(ANY) == 1, "the next run finds out whether there is room"
    assert bench.freed


async def test_the_next_run_tries_at_once_when_the_one_that_probed_the_quota_got_its_job(
    bench: Bench,
) -> None:
    second = id_of("second")
    for run_id in (RUN_ID, second):
        later = time.monotonic() + 60
        waiting = record(run(pending()), mine="claim", refusal=QUOTA, refused_until=later)
        bench.store.put(run_id, waiting)
    bench.store.put(RUN_ID, replace(bench.store.of(RUN_ID), refusal=None))
    assert bench.store.of(second).refused_until == NEVER
    assert await bench.controller.queue.get() == second
    assert bench.controller.free_slots(ANY) == 0


async def test_polls_learn_that_more_runs_may_be_claimed_as_the_slow_start_goes_on(
    bench: Bench,
) -> None:
    bench.store.put(RUN_ID, record(run(pending()), mine="claim", refusal=QUOTA))
    bench.store.drop(RUN_ID)
    before = bench.freed
    await asyncio.sleep(2.2)
    assert bench.freed == before + 2


async def test_runs_are_claimed_again_as_soon_as_the_api_server_accepts_jobs(bench: Bench) -> None:
    bench.controller._asked_to_wait(0.05)
    assert bench.controller.free_slots(ANY) == 0
    assert bench.freed == 0
    await asyncio.sleep(0.1)
    assert bench.controller.free_slots(ANY) == float("inf")
    assert bench.freed
