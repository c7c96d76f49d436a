"""Which due runs are offered, in which order, and how many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.snapshots import id_of, run, state
from workpool_operator.binding.model import Spec
from workpool_operator.dispatch import acquire
from workpool_operator.dispatch.acquire import Acquire
from workpool_operator.dispatch.capacity import Load
from workpool_operator.dispatch.ledger import Ledger
from workpool_operator.dispatch.workqueue import WorkQueue
from workpool_operator.errors import OperatorError, PrefectUnavailable
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.views import Run

SCHEDULED = run(state("SCHEDULED"))


def due(name: str) -> Run:
    return replace(SCHEDULED, id=id_of(name), name=name, state=None, deployment_id=id_of("d"))


@dataclass
class Pool:
    """Answers a poll with these runs; no deployment is asked for twice in one poll."""

    runs: list[Run] = field(default_factory=list)
    polls: int = 0
    deployments_read: int = 0
    asked_for: list[Sequence[str]] = field(default_factory=list)
    fails: OperatorError | None = None

    async def poll(self, *, queues: Sequence[str], **_: Any) -> list[Run]:
        self.polls += 1
        self.asked_for.append(queues)
        if self.fails:
            raise self.fails
        return self.runs

    async def deployments(self, ids: set[UUID]) -> dict[UUID, dict[str, Any]]:
        self.deployments_read += 1
        return {id_: {"id": str(id_)} for id_ in ids}


class Bench:
    def __init__(self, *names: str, **spec: Any) -> None:
        self.pool = Pool([due(name) for name in names])
        self.queue: WorkQueue[UUID] = WorkQueue()
        self.ledger = Ledger()
        self.taken = Load(frozenset(), frozenset())
        self.open = True
        self.queues: tuple[str, ...] | None = None
        self.heard: list[OperatorError | None] = []
        self.spec = Spec.model_validate(
            {"workPool": {"name": "etl"}, "server": {"url": "http://server/api"}, **spec}
        )
        self.acquire = Acquire(
            api=cast(PrefectApi, self.pool),
            queue=self.queue,
            ledger=self.ledger,
            spec=lambda: self.spec,
            queues=lambda: self.queues,
            load=self.load,
            open_=lambda: self.open,
            heard=self.heard.append,
        )

    def load(self) -> Load:
        offers = {str(id_) for id_, record in self.ledger if record.offered_at is not None}
        return Load(self.taken.running, self.taken.pending | offers)

    async def during(self, seconds: float = 0.05, *, do: Callable[[], None] | None = None) -> None:
        """Let the loop run."""
        task = asyncio.create_task(self.acquire.run())
        await asyncio.sleep(seconds)
        if do:
            do()
            await asyncio.sleep(acquire.CLOSEST_SECONDS + 0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def offered(self) -> list[str]:
        names = {run.id: run.name for run in self.pool.runs}
        return [names[await self.queue.get()] for _ in range(len(self.queue))]


async def test_runs_are_offered_in_the_order_of_the_poll() -> None:
    bench = Bench("c", "a", "b")
    await bench.during()
    assert await bench.offered() == ["c", "a", "b"]
    assert bench.pool.deployments_read == 1
    assert bench.acquire.polled.queued == 0


@pytest.mark.parametrize(("queues", "asked"), [(None, ()), (("high",), ("high",))])
async def test_the_queues_that_exist_are_polled(
    queues: tuple[str, ...] | None, asked: tuple[str, ...]
) -> None:
    bench = Bench("a")
    bench.queues = queues
    await bench.during()
    assert bench.pool.asked_for == [asked]


async def test_without_a_queue_nothing_is_polled_rather_than_every_queue() -> None:
    bench = Bench("a")
    bench.queues = ()
    await bench.during()
    assert bench.pool.polls == 0
    assert bench.heard == [None]
    assert bench.acquire.polled.at is None


async def test_no_more_runs_are_offered_than_there_are_slots() -> None:
    bench = Bench("a", "b", "c", concurrencyLimit=3)
    bench.taken = Load(running=frozenset({"x"}), pending=frozenset({"y"}))
    await bench.during()
    assert await bench.offered() == ["a"]
    assert bench.acquire.polled.queued == 2
    assert bench.acquire.polled.left_behind


async def test_an_offer_holds_its_slot() -> None:
    bench = Bench("a", "b", concurrencyLimit=1)
    await bench.during(do=bench.acquire.wake)
    assert bench.pool.polls == 2
    assert await bench.offered() == ["a"]


async def test_a_run_that_somebody_works_on_is_not_offered() -> None:
    bench = Bench("a", "b")
    bench.taken = Load(running=frozenset({str(id_of("a"))}), pending=frozenset())
    await bench.during()
    assert await bench.offered() == ["b"]


async def test_a_run_that_was_refused_is_not_offered_before_its_time() -> None:
    bench = Bench("a", "b")
    bench.ledger.of(id_of("a")).not_before = datetime.now(UTC) + timedelta(seconds=30)
    bench.ledger.of(id_of("b")).not_before = datetime.now(UTC) - timedelta(seconds=1)
    await bench.during()
    assert await bench.offered() == ["b"]
    assert bench.ledger.of(id_of("b")).not_before is None


async def test_a_closed_binding_polls_and_offers_nothing() -> None:
    bench = Bench("a")
    bench.open = False
    await bench.during()
    assert await bench.offered() == []
    assert bench.acquire.polled.queued == 1
    assert bench.pool.deployments_read == 0


async def test_an_answer_that_the_ledger_overtook_offers_nothing() -> None:
    bench = Bench("a")
    record = bench.ledger.of(id_of("a"))
    later = asyncio.get_running_loop().time() + 60
    record.heard(due("a"), asked_at=later, now=later)
    await bench.during()
    assert await bench.offered() == []


async def test_an_event_brings_the_next_poll_forward() -> None:
    bench = Bench()
    await bench.during(do=bench.acquire.wake)
    assert bench.pool.polls == 2


@pytest.mark.parametrize(("limit", "polls"), [(1, 2), (9, 1)])
async def test_a_slot_that_becomes_free_polls_only_if_runs_wait(limit: int, polls: int) -> None:
    bench = Bench("a", "b", concurrencyLimit=limit)
    await bench.during(do=bench.acquire.slot_freed)
    assert bench.pool.polls == polls


async def test_the_end_of_a_run_s_last_attempt_polls_for_the_next() -> None:
    bench = Bench("a")
    bench.taken = Load(frozenset({str(id_of("a"))}), frozenset())
    await bench.during(do=bench.acquire.slot_freed)
    assert bench.pool.polls == 2


async def test_a_failed_poll_is_told_and_tried_again_later() -> None:
    bench = Bench()
    bench.pool.fails = PrefectUnavailable("no answer")
    await bench.during(0.1)
    assert bench.pool.polls == 1
    assert [str(error) for error in bench.heard] == ["no answer"]
