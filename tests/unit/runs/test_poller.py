"""Which due runs are offered, in which order and number, and when a poll starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.clock import NOON
from tests.support.controller import OfflineController
from tests.support.simulated_pool import QUEUE, SimulatedPool, due
from tests.support.simulated_time import BACKEND, SimulatedClock
from tests.support.snapshots import claim, id_of
from workpool_operator.clock import Clocks
from workpool_operator.errors import OperatorError, PrefectUnavailable
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run
from workpool_operator.prefect_api.models import WorkQueue as QueueView
from workpool_operator.runs.capacity import InFlight
from workpool_operator.runs.deployment_limits import FULL_SECONDS
from workpool_operator.runs.offer_window import SMALLEST
from workpool_operator.runs.poller import Poller
from workpool_operator.runs.settings import PollSettings
from workpool_operator.runs.store import RunRecord

OTHER = QueueView(id_of("other"), "other", priority=2)
EQUAL = QueueView(id_of("equal"), "equal", priority=1)
SOON = 2.0  # less than the interval


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return BACKEND


def many(name: str, count: int, **fields: Any) -> list[Run]:
    return [due(f"{name}-{index}", **fields) for index in range(count)]


class Controller(OfflineController):
    """Has in flight the runs that a test sets, and the offers."""

    taken = InFlight(frozenset(), frozenset())

    def in_flight(self) -> InFlight:
        offers = {str(run_id) for run_id in self.store.offered}
        return InFlight(self.taken.running, self.taken.pending | offers)


class Bench:
    """A poller whose offers only the test takes."""

    def __init__(self, *runs: Run | str, concurrency_limit: int | None = None) -> None:
        made = [due(each) if isinstance(each, str) else each for each in runs]
        clock = SimulatedClock()
        self.pool = SimulatedPool(made)
        self.controller = Controller(prefect=self.pool, clocks=Clocks(clock, clock, clock))
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
            clock=clock,
        )

    @property
    def polls(self) -> int:
        return self.pool.calls["poll"]

    async def during(self, seconds: float = SOON, *, do: Callable[[], None] | None = None) -> None:
        """Poll for so many seconds; do this in the middle."""
        task = asyncio.create_task(self.poller.run())
        await asyncio.sleep(seconds / 2)
        if do:
            do()
        await asyncio.sleep(seconds / 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def offered(self) -> list[str]:
        """Return the names of the offered runs, in order."""
        names = {run.id: run.name for run in self.pool.runs}
        found = []
        for _ in range(len(self.queue)):
            run_id = await self.queue.get()
            self.queue.done(run_id)
            found.append(names[run_id])
        return found

    def take_offers(self) -> None:
        """Claim every offered run."""
        for run_id in tuple(self.store.offered):
            self.pool.claim(run_id)
            self.store.drop(run_id)
            self.poller.offer_closed(run_id)

    def end(self, name: str) -> None:
        """End the run, and report the slot that it returns."""
        self.pool.end(name)
        self.poller.slot_returned(id_of("d"))

    def refuse(self, *runs: Run) -> None:
        """Defer the runs, as after a refused claim."""
        for each in runs:
            refused = self.store.of(each.id).defer(None, wall=SimulatedClock().now())
            self.store.put(each.id, refused)


async def test_runs_are_offered_in_the_order_of_the_poll() -> None:
    bench = Bench(due("c", at=1), due("a", at=2), due("b", at=3))
    await bench.during()
    assert await bench.offered() == ["c", "a", "b"]
    assert bench.pool.calls["deployments"] == 1
    assert bench.poller.last.queued == 0


@pytest.mark.parametrize(("queues", "offered"), [(None, ["a", "b"]), (("other",), ["b"])])
async def test_the_queues_that_exist_are_polled(
    queues: tuple[str, ...] | None, offered: list[str]
) -> None:
    bench = Bench("a", due("b", queue=OTHER))
    bench.pool.queues = [QUEUE, OTHER]
    bench.queues = queues
    await bench.during()
    assert await bench.offered() == offered


async def test_without_a_queue_nothing_is_polled_rather_than_every_queue() -> None:
    bench = Bench("a")
    bench.queues = ()
    await bench.during()
    assert bench.polls == 0
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
    await bench.during(15)
    assert bench.polls == 2
    assert await bench.offered() == ["a"]


async def test_a_run_in_flight_is_not_offered() -> None:
    bench = Bench("a", "b")
    bench.controller.taken = InFlight(running=frozenset({str(id_of("a"))}), pending=frozenset())
    await bench.during()
    assert await bench.offered() == ["b"]


async def test_a_run_that_was_refused_is_not_offered_before_its_time() -> None:
    bench = Bench("a", "b")
    for name, seconds in (("a", 30), ("b", -1)):
        not_before = NOON + timedelta(seconds=seconds)
        bench.store.put(id_of(name), RunRecord(not_before=not_before))
    await bench.during()
    assert await bench.offered() == ["b"]
    assert bench.store.of(id_of("b")).not_before is None


async def test_a_closed_binding_polls_and_offers_nothing() -> None:
    bench = Bench("a", "b")
    bench.open = False
    await bench.during()
    assert await bench.offered() == []
    assert bench.poller.last.queued == 2
    assert bench.pool.calls["deployments"] == 0


async def test_an_answer_that_is_older_than_the_store_offers_nothing() -> None:
    bench = Bench("a")
    later = asyncio.get_running_loop().time() + 60
    bench.store.apply(id_of("a"), due("a"), asked_at=later)
    await bench.during()
    assert await bench.offered() == []


async def test_every_due_run_that_waits_is_counted_however_many_a_poll_reads() -> None:
    bench = Bench(*many("a", 500), concurrency_limit=10)
    await bench.during()
    assert bench.poller.last.queued == 490


# Runs that cannot be claimed, and those behind them


async def test_runs_whose_claims_are_refused_leave_their_slots_to_others() -> None:
    bench = Bench(due("held", at=1), due("healthy", at=2), concurrency_limit=1)
    await bench.during()
    assert await bench.offered() == ["held"]
    bench.refuse(due("held"))
    await bench.during()
    assert await bench.offered() == ["healthy"]


async def test_runs_behind_a_page_of_refused_runs_are_found() -> None:
    held = many("held", 200, at=1)
    bench = Bench(*held, *many("healthy", 2, at=2))
    bench.refuse(*held)
    await bench.during()
    assert await bench.offered() == ["healthy-0", "healthy-1"]


async def test_runs_behind_a_page_that_a_limit_of_the_pool_cuts_are_found() -> None:
    held = many("held", 3, at=1)
    bench = Bench(*held, *many("healthy", 2, at=2))
    bench.pool.limit = 3
    bench.refuse(*held)
    await bench.during()
    assert await bench.offered() == ["healthy-0", "healthy-1"]


async def test_a_short_page_with_a_refused_run_hides_nothing_without_limits() -> None:
    bench = Bench("held", "healthy")
    bench.refuse(due("held"))
    await bench.during()
    assert await bench.offered() == ["healthy"]
    assert bench.pool.calls["filter_runs"] == 0


async def test_what_is_found_behind_a_page_keeps_the_limits_of_pool_and_queues() -> None:
    held = many("held", 20, at=1)
    bench = Bench(*held, *many("behind", 20, at=2), *many("other", 20, at=2, queue=OTHER))
    bench.pool.queues = [replace(QUEUE, concurrency_limit=25), OTHER]
    bench.pool.limit = 30
    for index in range(22):
        bench.pool.runs.append(replace(due(f"active-{index}"), state_type="RUNNING"))
    bench.refuse(*held)
    await bench.during()
    assert await bench.offered() == [
        *(f"other-{index}" for index in range(5)),
        *(f"behind-{index}" for index in range(3)),
    ]


async def test_behind_a_page_queues_of_equal_priority_share_by_time() -> None:
    held = many("held", 20, at=1)
    others = [due("a", at=2), due("b", at=3, queue=EQUAL), due("c", at=4), due("d", queue=OTHER)]
    bench = Bench(*held, *others)
    bench.pool.queues = [OTHER, QUEUE, EQUAL]
    bench.refuse(*held)
    await bench.during()
    assert await bench.offered() == ["a", "b", "c", "d"]


async def test_a_run_behind_1000_of_a_deployment_without_a_free_slot_is_found_at_once() -> None:
    bench = Bench(*many("parked", 1000, at=1, deployment="full"), due("free", at=2))
    bench.pool.limits[id_of("full")] = 0
    await bench.during()
    assert await bench.offered() == ["free"]
    assert bench.polls == 1
    assert sum(bench.pool.calls.values()) < 12


async def test_a_run_without_a_deployment_is_found_behind_them_too() -> None:
    bench = Bench(
        *many("parked", 50, at=1, deployment="full"),
        due("ad hoc", at=2, deployment=None),
        due("free", at=3),
    )
    bench.pool.limits[id_of("full")] = 0
    await bench.during()
    assert await bench.offered() == ["ad hoc", "free"]


async def test_a_run_behind_200_deployments_without_a_free_slot_is_found_at_once() -> None:
    parked = [due(f"parked-{n}", at=1, deployment=f"full-{n}") for n in range(200)]
    bench = Bench(*parked, due("free", at=2))
    bench.pool.limits |= {run.deployment_id: 0 for run in parked if run.deployment_id}
    await bench.during()
    assert await bench.offered() == ["free"]


async def test_a_deployment_without_a_free_slot_is_read_once_in_its_time() -> None:
    bench = Bench(*many("parked", 5, deployment="full"))
    bench.pool.limits[id_of("full")] = 0
    await bench.during(FULL_SECONDS - 1)
    assert bench.polls == 3
    assert bench.pool.calls["deployments"] == 1
    assert bench.poller.last.queued == 5


async def test_the_log_of_a_run_says_once_that_its_deployment_has_no_free_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(*many("parked", 2, deployment="full"), "free")
    bench.pool.limits[id_of("full")] = 0
    lines: list[tuple[UUID, str]] = []
    monkeypatch.setattr(bench.controller.run_log, "write", lambda *line: lines.append(line))
    await bench.during(2 * FULL_SECONDS + 5)
    parked = [run.id for run in bench.pool.runs if run.name.startswith("parked")]
    assert [run_id for run_id, _ in lines] == parked
    assert "0 of 0 slots are taken" in lines[0][1]


async def test_as_many_runs_are_offered_as_their_deployment_has_free_slots() -> None:
    bench = Bench(*many("limited", 9, at=1, deployment="full"), due("free", at=2))
    bench.pool.limits[id_of("full")] = 3
    await bench.during()
    assert await bench.offered() == ["limited-0", "limited-1", "limited-2", "free"]


async def test_the_end_of_a_run_has_the_next_of_its_deployment_offered() -> None:
    bench = Bench("a", "b")
    bench.pool.limits[id_of("d")] = 1
    bench.pool.runs.append(replace(due("active"), state_type="RUNNING"))

    await bench.during(do=lambda: bench.end("active"))
    assert await bench.offered() == ["a"]


async def test_a_slot_that_becomes_free_after_the_event_of_the_end_is_found_too() -> None:
    bench = Bench("a", "b")
    bench.pool.limits[id_of("d")] = 1
    bench.pool.runs.append(replace(due("active"), state_type="RUNNING"))

    def end() -> None:
        bench.poller.slot_returned(id_of("d"))
        asyncio.get_running_loop().call_later(0.5, bench.pool.end, "active")

    await bench.during(2 * SOON, do=end)
    assert await bench.offered() == ["a"]
    assert bench.polls == 3


async def test_a_slot_that_becomes_free_while_a_poll_finds_none_is_filled_after_it() -> None:
    """Its answer is older than the event, and shows the first run that waits for the slot."""
    bench = Bench("a")
    bench.pool.limits[id_of("d")] = 1
    bench.pool.runs.append(replace(due("active"), state_type="RUNNING"))
    read = bench.pool.deployments

    async def late(ids: set[UUID]) -> dict[UUID, dict[str, Any]]:
        found = await read(ids)
        bench.pool.deployments = read  # type: ignore[method-assign]
        bench.end("active")
        await asyncio.sleep(1.5)  # longer than the second look
        return found

    bench.pool.deployments = late  # type: ignore[method-assign]
    await bench.during(2 * SOON)
    assert await bench.offered() == ["a"]


async def test_after_a_refused_claim_the_offers_of_its_deployment_are_withdrawn() -> None:
    bench = Bench("a", "b", due("c", deployment="other"))

    def refuse() -> None:
        run = bench.store.of(id_of("a")).run
        assert run is not None
        refused = replace(run.with_state(bench.pool.awaiting_slot("a")))
        bench.store.put(id_of("a"), bench.store.of(id_of("a")).defer(refused.state, wall=NOON))
        bench.poller.offer_closed(id_of("a"))

    await bench.during(do=refuse)
    assert bench.store.offered == {id_of("c")}


# When a poll starts


async def test_an_event_brings_the_next_poll_forward() -> None:
    bench = Bench()
    await bench.during(do=bench.poller.wake)
    assert bench.polls == 2


async def test_a_burst_of_events_causes_four_polls_per_second_at_most() -> None:
    bench = Bench()

    async def events() -> None:
        while True:
            bench.poller.wake()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(events())
    await bench.during(5)
    task.cancel()
    assert 15 <= bench.polls <= 21


async def test_an_event_waits_for_a_slot() -> None:
    bench = Bench("a", concurrency_limit=1)
    bench.controller.taken = InFlight(running=frozenset({"x"}), pending=frozenset())

    def free() -> None:
        assert bench.polls == 1
        bench.controller.taken = InFlight(frozenset(), frozenset())
        bench.poller.slot_freed()

    bench.poller.wake()
    await bench.during(do=free)
    assert await bench.offered() == ["a"]


@pytest.mark.parametrize(("limit", "polls"), [(1, 2), (9, 1)])
async def test_a_slot_that_becomes_free_polls_only_if_runs_wait(limit: int, polls: int) -> None:
    bench = Bench("a", "b", concurrency_limit=limit)

    def end() -> None:
        for run_id in tuple(bench.store.offered):
            bench.store.drop(run_id)
        bench.poller.slot_freed()

    await bench.during(do=end)
    assert bench.polls == polls


@pytest.mark.parametrize("request_in_progress", ["poll", "work_pool", "count_runs"])
async def test_slots_that_become_free_during_a_poll_are_filled_after_it(
    request_in_progress: str,
) -> None:
    """Only its outcome shows which runs it leaves without a slot."""
    bench = Bench(*many("a", 3), concurrency_limit=3)
    bench.controller.taken = InFlight(running=frozenset({"x", "y", "z"}), pending=frozenset())
    bench.pool.seconds[request_in_progress] = 1.5

    def free() -> None:
        assert bench.poller.last.at is None
        bench.pool.seconds.clear()
        bench.controller.taken = InFlight(frozenset(), frozenset())
        bench.poller.slot_freed()

    await bench.during(do=free)
    assert await bench.offered() == ["a-0", "a-1", "a-2"]
    assert bench.polls == 2


async def test_the_end_of_a_run_s_last_attempt_polls_for_the_next() -> None:
    bench = Bench("a")
    bench.controller.taken = InFlight(frozenset({str(id_of("a"))}), frozenset())
    await bench.during(do=bench.poller.slot_freed)
    assert bench.polls == 2


async def test_a_failed_poll_is_reported_and_repeated_later() -> None:
    bench = Bench()
    bench.pool.fails = PrefectUnavailable("no answer")
    await bench.during(0.5)
    assert bench.polls == 1
    assert [str(error) for error in bench.reported] == ["no answer"]


@pytest.mark.parametrize("limit", ["of the pool", "of the queue"])
async def test_the_end_of_a_run_has_a_run_polled_that_waits_for_a_limit_in_prefect(
    limit: str,
) -> None:
    bench = Bench("first", "second")
    bench.pool.limit = 1 if limit == "of the pool" else None
    bench.pool.queues = [replace(QUEUE, concurrency_limit=1 if limit == "of the queue" else None)]
    await bench.during()
    assert await bench.offered() == ["first"]
    assert bench.poller.last.queued == 1
    bench.take_offers()

    def end() -> None:
        assert not bench.store.offered
        bench.end("first")

    await bench.during(do=end)
    assert await bench.offered() == ["second"]


async def test_runs_that_were_scheduled_after_the_last_count_fill_a_slot_of_the_pool_too() -> None:
    bench = Bench()
    bench.pool.limit = 1
    await bench.during()  # counts none
    bench.pool.runs += [due("first"), due("second")]
    await bench.during()
    assert await bench.offered() == ["first"]
    bench.take_offers()

    await bench.during(do=lambda: bench.end("first"))
    assert await bench.offered() == ["second"]


async def test_a_run_of_which_the_store_has_a_newer_answer_is_polled_again_at_once() -> None:
    bench = Bench("a")
    later = asyncio.get_running_loop().time() + 0.1
    bench.store.apply(id_of("a"), due("a"), asked_at=later)
    await bench.during()
    assert await bench.offered() == ["a"]


async def test_without_a_limit_in_prefect_the_end_of_a_run_polls_for_nothing() -> None:
    bench = Bench("first")
    await bench.during(do=lambda: bench.poller.slot_returned(id_of("d")))
    assert bench.polls == 1
    assert bench.pool.calls["work_queues"] == 1


async def test_limits_in_prefect_are_read_when_no_run_is_to_be_claimed() -> None:
    bench = Bench("first")
    task = asyncio.create_task(bench.poller.run())
    await asyncio.sleep(55)
    bench.take_offers()
    bench.pool.runs.append(due("second"))
    await asyncio.sleep(10)
    assert await bench.offered() == ["first", "second"]
    assert bench.pool.calls["work_queues"] == 1
    await asyncio.sleep(10)
    assert bench.pool.calls["work_queues"] == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_binding_polls_at_once_when_its_server_is_usable_again() -> None:
    bench = Bench("first")
    bench.open = False  # suspended: nothing else starts a poll
    bench.pool.fails = PrefectUnavailable("no answer", retry_after=30)

    def recover() -> None:
        assert bench.poller.succeeded_at == float("-inf")
        bench.pool.fails = None
        bench.poller.poll_at_once()

    await bench.during(do=recover)
    assert bench.polls == 2
    assert bench.poller.succeeded_at > 0
    await bench.during(do=bench.poller.poll_at_once)
    assert bench.polls == 4


@pytest.mark.parametrize(("later", "polls"), [(0.0, 1), (0.1, 2)])
async def test_a_poll_in_progress_will_do_if_the_server_was_usable_when_it_began(
    later: float, polls: int
) -> None:
    bench = Bench()
    bench.pool.seconds["poll"] = 1.5
    began = SimulatedClock().monotonic()

    def usable_again() -> None:
        bench.pool.seconds["poll"] = 0
        bench.poller.poll_at_once(since=began + later)

    await bench.during(do=usable_again)
    assert bench.polls == polls


async def test_a_poll_reads_as_many_runs_as_its_window_has_room_for() -> None:
    bench = Bench(*many("a", 500))
    await bench.during(do=bench.take_offers)
    assert bench.pool.requested == [SMALLEST, 2 * SMALLEST]
    assert len(bench.store.offered) == 2 * SMALLEST


async def test_runs_that_are_claimed_here_and_scheduled_on_the_server_hide_no_other() -> None:
    """An event was missed; the next resync finds them."""
    claimed = many("claimed", 50, at=1)
    bench = Bench(*claimed, due("free", at=2))
    for each in claimed:
        bench.store.put(each.id, RunRecord(run=replace(each, state_type="PENDING"), claim=claim()))
    await bench.during()
    assert await bench.offered() == ["free"]
    assert bench.polls == 1


async def test_while_half_of_the_offers_are_open_no_event_polls() -> None:
    bench = Bench(*many("a", 500))
    await bench.during(do=bench.poller.wake)
    assert bench.polls == 1


async def test_a_burst_goes_on_between_two_polls_although_no_offer_is_open() -> None:
    bench = Bench(*many("a", 40))
    claiming = []

    def take_offers() -> None:
        bench.take_offers()
        claiming.append((len(bench.store.offered), bench.store.is_claiming))

    await bench.during(do=take_offers)
    assert claiming == [(0, True)]
    bench.take_offers()
    assert not bench.store.is_claiming
