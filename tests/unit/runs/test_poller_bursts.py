"""What a burst of runs costs: simulated servers, with the real poller, queue and reconcilers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.controller import OfflineController
from tests.support.simulated_pool import SimulatedPool, due
from tests.support.simulated_time import BACKEND, SimulatedClock
from tests.support.snapshots import id_of
from workpool_operator.clock import Clocks
from workpool_operator.errors import PrefectUnavailable
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.events import StateChange
from workpool_operator.prefect_api.models import Run, SetStateResult
from workpool_operator.runs import actions
from workpool_operator.runs.executor import Executor
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.poller import Poller
from workpool_operator.runs.settings import PollSettings

RECONCILERS = 16


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return BACKEND


class Claims(Executor):
    """Claims runs. A Job takes `job_seconds`, then its run is forgotten."""

    job_seconds = 0.01

    async def _execute_in_kubernetes(self, run_id: UUID, action: actions.KubernetesAction) -> None:
        assert isinstance(action, actions.CreateJob)
        await asyncio.sleep(self.job_seconds)
        self._store.drop(run_id)


class Controller(OfflineController):
    def _make_executor(self, *_: Any) -> Executor:
        absent: Any = None
        return Claims(
            namespace_of=self.namespace_of,
            kube=absent,
            queue=self.queue,
            store=self.store,
            cluster=self._cluster,
            proposals=self.proposals,
            job_creator=absent,
            settings=self._settings,
            listener=self._listener,
            recorder=absent,
            clock=self.clock,
        )


@dataclass
class Burst(Listener):
    """Runs that are all due at noon, and a binding that claims them."""

    runs: list[Run]
    claim_seconds: float = 0.01
    concurrency_limit: int | None = None
    expired: int = 0
    reported: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = SimulatedClock()
        seconds = {"set_state": self.claim_seconds, "poll": 0.03}
        self.pool = SimulatedPool(self.runs, seconds=seconds)
        self.controller = Controller(
            prefect=self.pool,
            listener=self,
            clocks=Clocks(clock, clock, clock),
            workers=RECONCILERS,
        )
        settings = PollSettings(concurrency_limit=self.concurrency_limit)
        self.poller = Poller(
            self.controller,
            prefect=cast("PrefectApi", self.pool),
            settings=lambda: settings,
            queues=lambda: None,
            may_claim=lambda: True,
            polled=self.reported.append,
            clock=clock,
        )

    async def last(self, seconds: float) -> None:
        """Let the burst go on for so many seconds."""
        loops = [self.controller._make_reconciler().run() for _ in range(RECONCILERS)]
        tasks = [asyncio.create_task(loop) for loop in (*loops, self.poller.run())]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.controller.queue.close()

    @property
    def claimed(self) -> list[str]:
        return [name for _, name in self.pool.claimed]

    def offer_closed(self, run_id: UUID) -> None:
        self.poller.offer_closed(run_id)

    def run_due(self) -> None:
        self.expired += 1
        self.poller.wake()

    def capacity_freed(self) -> None:
        self.poller.slot_freed()

    def run_scheduled(self, queue: str | None) -> None:
        self.poller.wake()

    def slot_returned(self, deployment: UUID) -> None:
        self.poller.slot_returned(deployment)


def many(name: str, count: int, **fields: Any) -> list[Run]:
    return [due(f"{name}-{index}", **fields) for index in range(count)]


@pytest.mark.parametrize("per_second", [20, 40, 100])
async def test_claims_go_on_at_the_rate_of_the_server_and_no_offer_expires(per_second: int) -> None:
    burst = Burst(many("a", 600), claim_seconds=1 / per_second)
    await burst.last(900 / per_second)
    assert len(burst.claimed) == 600
    assert burst.expired == 0
    first, last = burst.pool.claimed[0][0], burst.pool.claimed[-1][0]
    assert 600 / (last - first) > 0.85 * per_second
    reads = sum(burst.pool.calls.values()) - burst.pool.calls["set_state"]
    assert reads / 600 < 0.25


async def test_if_the_server_becomes_slower_few_runs_are_read_again() -> None:
    burst = Burst(many("a", 400), claim_seconds=0.02)

    async def slow_down() -> None:
        await asyncio.sleep(3)
        burst.pool.seconds["set_state"] = 0.1

    task = asyncio.create_task(slow_down())
    await burst.last(40)
    await task
    assert len(burst.claimed) == 400
    assert burst.expired < 80


async def test_after_an_outage_the_burst_goes_on() -> None:
    burst = Burst(many("a", 200), claim_seconds=0.02)

    async def fail() -> None:
        await asyncio.sleep(1)
        burst.pool.fails = PrefectUnavailable("no answer")
        await asyncio.sleep(20)
        burst.pool.fails = None

    task = asyncio.create_task(fail())
    await burst.last(60)
    await task
    assert sorted(burst.claimed) == sorted(run.name for run in burst.runs)


async def test_runs_that_cannot_be_claimed_cost_no_claim_and_hold_up_no_other() -> None:
    burst = Burst([*many("parked", 1000, deployment="full"), *many("free", 200, at=1)])
    burst.pool.limits[id_of("full")] = 1
    burst.pool.runs.append(replace(due("active", deployment="full"), state_type="RUNNING"))
    await burst.last(60)
    assert len(burst.claimed) == 200
    assert burst.pool.refused == []


async def test_a_freed_slot_of_a_deployment_is_filled_within_2_seconds() -> None:
    burst = Burst(many("a", 5))
    burst.pool.limits[id_of("d")] = 1

    async def end() -> None:
        for name in ("a-0", "a-1", "a-2"):
            await asyncio.sleep(7)
            burst.pool.end(name)
            burst.poller.slot_returned(id_of("d"))

    task = asyncio.create_task(end())
    await burst.last(25)
    await task
    began = [seconds for seconds, _ in burst.pool.claimed]
    assert burst.claimed == ["a-0", "a-1", "a-2", "a-3"]
    assert all(second - 7 * index < 2 for index, second in enumerate(began))
    assert burst.pool.refused == []


async def test_slots_that_others_take_cost_one_refused_claim_in_30_seconds() -> None:
    """The deployment shows free slots, which are taken before the first claims."""
    burst = Burst(many("a", 100), claim_seconds=0.02)
    burst.pool.limits[id_of("d")] = 3
    burst.pool.taken_elsewhere[id_of("d")] = 3
    await burst.last(59)
    assert burst.claimed == []
    first, *later = (seconds for seconds, _ in burst.pool.refused if seconds > 1)
    assert first > 29
    assert later == []


async def test_a_run_whose_claim_was_refused_is_claimed_as_soon_as_it_is_due_again() -> None:
    """Nothing tells that a run of another pool returned the slot meanwhile."""
    burst = Burst([due("a")])
    burst.pool.limits[id_of("d")] = 1
    burst.pool.taken_elsewhere[id_of("d")] = 1
    asyncio.get_running_loop().call_later(29.5, burst.pool.taken_elsewhere.clear)
    propose = burst.pool.set_state

    async def set_state(run_id: UUID, proposed: dict[str, Any]) -> SetStateResult:
        answer = await propose(run_id, proposed)
        await asyncio.sleep(0.5)  # until the answer arrives, which names when the run is due
        return answer

    burst.pool.set_state = set_state  # type: ignore[method-assign]
    await burst.last(39)
    [(seconds, name)] = burst.pool.claimed
    assert (len(burst.pool.refused), name) == (1, "a")
    assert 30 < seconds < 31


@pytest.mark.parametrize("event_comes", ["before the answer", "after it"])
async def test_the_event_of_a_refused_claim_returns_no_slot(event_comes: str) -> None:
    burst = Burst(many("a", 100), claim_seconds=0.02)
    burst.pool.limits[id_of("d")] = 3
    burst.pool.taken_elsewhere[id_of("d")] = 3
    propose = burst.pool.set_state

    async def set_state(run_id: UUID, proposed: dict[str, Any]) -> SetStateResult:
        answer = await propose(run_id, proposed)
        assert answer.state is not None
        name = "AwaitingConcurrencySlot"
        event = StateChange(run_id, "SCHEDULED", name, answer.state.id, id_of("d"))
        if event_comes == "before the answer":
            burst.controller._state_changed(event)
        else:
            asyncio.get_running_loop().call_later(0.05, burst.controller._state_changed, event)
        return answer

    burst.pool.set_state = set_state  # type: ignore[method-assign]
    await burst.last(59)
    assert len(burst.pool.refused) <= 6


async def test_each_free_slot_of_the_binding_is_filled_within_2_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Claims, "job_seconds", 7.0)
    burst = Burst(many("a", 8), concurrency_limit=2)
    await burst.last(25)
    assert len(burst.claimed) == 8
    assert burst.pool.claimed[-1][0] < 3 * (7 + 1)
