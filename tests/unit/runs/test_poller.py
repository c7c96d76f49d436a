"""Which due runs are offered, in which order and number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.controller import OfflineController
from tests.support.snapshots import id_of, run, state
from workpool_operator.errors import OperatorError, PrefectUnavailable
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run, WorkPool
from workpool_operator.prefect_api.models import WorkQueue as QueueView
from workpool_operator.runs import poller
from workpool_operator.runs.capacity import InFlight
from workpool_operator.runs.poller import Poller
from workpool_operator.runs.settings import PollSettings
from workpool_operator.runs.store import RunRecord

SCHEDULED = run(state("SCHEDULED"))
QUEUE = QueueView(id_of("queue"), "default", priority=1)
OTHER = QueueView(id_of("other"), "other", priority=2)


def due(name: str, *, queue: QueueView = QUEUE) -> Run:
    fields: dict[str, Any] = {"state": None, "deployment_id": id_of("d"), "work_queue_id": queue.id}
    return replace(SCHEDULED, id=id_of(name), name=name, **fields)


def many(name: str, count: int, *, queue: QueueView = QUEUE) -> list[Run]:
    return [due(f"{name}-{index}", queue=queue) for index in range(count)]


@dataclass
class Pool:
    """Answers a poll with these runs; no deployment is requested for twice in one poll. Of the runs
    `behind` a page, those are returned that match the filter for their queue."""

    runs: list[Run] = field(default_factory=list)
    behind: list[Run] = field(default_factory=list)
    active: int = 0
    limit: int | None = None
    queues: list[QueueView] = field(default_factory=lambda: [QUEUE])
    polls: int = 0
    deployments_read: int = 0
    requested: list[Sequence[str]] = field(default_factory=list)
    fails: OperatorError | None = None

    async def poll(self, *, queues: Sequence[str], **_: Any) -> list[Run]:
        self.polls += 1
        self.requested.append(queues)
        if self.fails:
            raise self.fails
        return self.runs

    async def work_pool(self) -> WorkPool:
        return WorkPool(id_of("pool"), "etl", "kubernetes", concurrency_limit=self.limit)

    async def work_queues(self) -> list[QueueView]:
        return self.queues

    async def count_runs(self, filters: dict[str, Any]) -> int:
        return self.active

    async def filter_runs(self, body: dict[str, Any]) -> list[Run]:
        (queue,) = body["work_pool_queues"]["id"]["any_"]
        known = body["flow_runs"]["id"]["not_any_"]
        due = [r for r in self.behind if str(r.work_queue_id) == queue and str(r.id) not in known]
        return due[: body["limit"]]

    async def deployments(self, ids: set[UUID]) -> dict[UUID, dict[str, Any]]:
        self.deployments_read += 1
        return {id_: {"id": str(id_)} for id_ in ids}


class Controller(OfflineController):
    """Has in flight the runs that a test sets, and the offers."""

    taken = InFlight(frozenset(), frozenset())

    def in_flight(self) -> InFlight:
        offers = {str(id_) for id_, record in self.store if record.offered_at is not None}
        return InFlight(self.taken.running, self.taken.pending | offers)


class Bench:
    def __init__(self, *names: str, concurrency_limit: int | None = None) -> None:
        self.pool = Pool([due(name) for name in names])
        self.controller = Controller(prefect=self.pool)
        self.queue, self.store = self.controller.queue, self.controller.store
        self.open = True
        self.queues: tuple[str, ...] | None = None
        self.reported: list[OperatorError | None] = []
        settings = PollSettings(concurrency_limit=concurrency_limit)
        self.poller = Poller(
            self.controller,
            prefect=cast("PrefectApi", self.pool),
            settings=lambda: settings,
            queues=lambda: self.queues,
            may_claim=lambda: self.open,
            polled=self.reported.append,
        )

    async def during(self, seconds: float = 0.05, *, do: Callable[[], None] | None = None) -> None:
        """Run the loop for so many seconds."""
        task = asyncio.create_task(self.poller.run())
        await asyncio.sleep(seconds)
        if do:
            do()
            await asyncio.sleep(poller.CLOSEST_SECONDS + 0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def offered(self) -> list[str]:
        names = {run.id: run.name for run in (*self.pool.runs, *self.pool.behind)}
        found = []
        for _ in range(len(self.queue)):
            run_id = await self.queue.get()
            self.queue.done(run_id)
            found.append(names[run_id])
        return found


async def test_runs_are_offered_in_the_order_of_the_poll() -> None:
    bench = Bench("c", "a", "b")
    await bench.during()
    assert await bench.offered() == ["c", "a", "b"]
    assert bench.pool.deployments_read == 1
    assert bench.poller.last.queued == 0


@pytest.mark.parametrize(("queues", "requested"), [(None, ()), (("high",), ("high",))])
async def test_the_queues_that_exist_are_polled(
    queues: tuple[str, ...] | None, requested: tuple[str, ...]
) -> None:
    bench = Bench("a")
    bench.queues = queues
    await bench.during()
    assert bench.pool.requested == [requested]


async def test_without_a_queue_nothing_is_polled_rather_than_every_queue() -> None:
    bench = Bench("a")
    bench.queues = ()
    await bench.during()
    assert bench.pool.polls == 0
    assert bench.reported == [None]
    assert bench.poller.last.at is None


async def test_no_more_runs_are_offered_than_there_are_slots() -> None:
    bench = Bench("a", "b", "c", concurrency_limit=3)
    bench.controller.taken = InFlight(running=frozenset({"x"}), pending=frozenset({"y"}))
    await bench.during()
    assert await bench.offered() == ["a"]
    assert bench.poller.last.queued == 2
    assert bench.poller.last.runs_left


async def test_an_offer_holds_its_slot() -> None:
    bench = Bench("a", "b", concurrency_limit=1)
    await bench.during(do=bench.poller.wake)
    assert bench.pool.polls == 2
    assert await bench.offered() == ["a"]


async def test_a_run_in_flight_is_not_offered() -> None:
    bench = Bench("a", "b")
    bench.controller.taken = InFlight(running=frozenset({str(id_of("a"))}), pending=frozenset())
    await bench.during()
    assert await bench.offered() == ["b"]


async def test_a_run_that_was_refused_is_not_offered_before_its_time() -> None:
    bench = Bench("a", "b")
    for name, seconds in (("a", 30), ("b", -1)):
        not_before = datetime.now(UTC) + timedelta(seconds=seconds)
        bench.store.put(id_of(name), RunRecord(not_before=not_before))
    await bench.during()
    assert await bench.offered() == ["b"]
    assert bench.store.of(id_of("b")).not_before is None


def refuse(bench: Bench, runs: list[Run]) -> None:
    for each in runs:
        refused = bench.store.of(each.id).defer(None, wall=datetime.now(UTC))
        bench.store.put(each.id, refused)


async def test_runs_whose_claims_are_refused_leave_their_slots_to_others() -> None:
    """For example of a deployment whose limit is 0: each poll returns them first."""
    bench = Bench("held", "healthy", concurrency_limit=1)
    await bench.during()
    assert await bench.offered() == ["held"]
    refuse(bench, [due("held")])
    await bench.during()
    assert await bench.offered() == ["healthy"]


@pytest.mark.parametrize("held", [200, 3], ids=["a full page", "a page cut by a limit"])
async def test_what_a_page_of_refused_runs_hides_is_found(held: int) -> None:
    bench = Bench()
    bench.pool.runs = many("held", held)
    bench.pool.limit = held
    bench.pool.behind = many("healthy", 2)
    refuse(bench, bench.pool.runs)
    await bench.during()
    assert await bench.offered() == ["healthy-0", "healthy-1"]


async def test_what_is_found_behind_a_page_keeps_the_pool_s_limit() -> None:
    bench = Bench(concurrency_limit=1000)
    bench.pool.runs, bench.pool.behind = many("page", 200), many("behind", 200)
    bench.pool.limit, bench.pool.active = 260, 10
    await bench.during()
    assert len(bench.queue) == 250


async def test_what_is_found_behind_a_page_keeps_each_queue_s_limit() -> None:
    bench = Bench(concurrency_limit=1000)
    bench.pool.queues = [replace(QUEUE, concurrency_limit=250), OTHER]
    bench.pool.runs = [*many("page", 150), *many("other", 50, queue=OTHER)]
    bench.pool.behind = [*many("behind", 190), *many("other behind", 30, queue=OTHER)]
    await bench.during()
    offered = await bench.offered()
    assert sum(name.startswith(("page", "behind")) for name in offered) == 250
    assert sum(name.startswith("other") for name in offered) == 80


async def test_runs_that_are_offered_but_not_claimed_yet_count_for_the_limits() -> None:
    bench = Bench()
    bench.pool.runs, bench.pool.behind = many("page", 200), many("behind", 200)
    bench.pool.limit = 250
    for each in bench.pool.runs:
        bench.store.put(each.id, RunRecord(run=each, offered_at=0.0))
    await bench.during()
    assert len(bench.queue) == 50


async def test_a_closed_binding_polls_and_offers_nothing() -> None:
    bench = Bench("a")
    bench.open = False
    await bench.during()
    assert await bench.offered() == []
    assert bench.poller.last.queued == 1
    assert bench.pool.deployments_read == 0


async def test_an_answer_that_is_older_than_the_store_offers_nothing() -> None:
    bench = Bench("a")
    later = asyncio.get_running_loop().time() + 60
    bench.store.apply(id_of("a"), due("a"), asked_at=later)
    await bench.during()
    assert await bench.offered() == []


async def test_an_event_brings_the_next_poll_forward() -> None:
    bench = Bench()
    await bench.during(do=bench.poller.wake)
    assert bench.pool.polls == 2


@pytest.mark.parametrize(("limit", "polls"), [(1, 2), (9, 1)])
async def test_a_slot_that_becomes_free_polls_only_if_runs_wait(limit: int, polls: int) -> None:
    bench = Bench("a", "b", concurrency_limit=limit)
    await bench.during(do=bench.poller.slot_freed)
    assert bench.pool.polls == polls


async def test_the_end_of_a_run_s_last_attempt_polls_for_the_next() -> None:
    bench = Bench("a")
    bench.controller.taken = InFlight(frozenset({str(id_of("a"))}), frozenset())
    await bench.during(do=bench.poller.slot_freed)
    assert bench.pool.polls == 2


async def test_a_failed_poll_is_reported_and_repeated_later() -> None:
    bench = Bench()
    bench.pool.fails = PrefectUnavailable("no answer")
    await bench.during(0.1)
    assert bench.pool.polls == 1
    assert [str(error) for error in bench.reported] == ["no answer"]
