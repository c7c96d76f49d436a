"""The loop around the table: one step after the other, and never the same one for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.snapshots import RUN_ID, job, pod, run
from workpool_operator.dispatch import steps
from workpool_operator.dispatch.actions import Actions
from workpool_operator.dispatch.ledger import Ledger
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.reconciler import REPEATS, Reconciler
from workpool_operator.dispatch.workqueue import WorkQueue
from workpool_operator.errors import OperatorError, PrefectUnavailable
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.views import Job, Pod

PLACE = Place("c", "data/etl", "b", "w", "data", "http://server/api", UUID(int=1), ())


class Hands:
    """Carries out nothing but what a test says."""

    def __init__(self, do: Callable[[UUID, steps.Step], None]) -> None:
        self.taken: list[steps.Step] = []
        self._do = do

    async def act(self, run_id: UUID, step: steps.Step) -> None:
        self.taken.append(step)
        self._do(run_id, step)


class Bench:
    """A reconciler whose hands are the test's."""

    def __init__(self, do: Callable[[UUID, steps.Step], None] = lambda *_: None) -> None:
        self.queue: WorkQueue[UUID] = WorkQueue(jitter=lambda *_: 1.0)
        self.ledger = Ledger()
        self.jobs: Cache[Job] = Cache(lambda _: None)
        self.pods: Cache[Pod] = Cache(lambda _: None)
        self.hands = Hands(do)
        self.idle = self.late = 0
        self.heard: list[OperatorError] = []
        self.jobs.synced.set()
        self.pods.synced.set()

    async def work(self, seconds: float = 0.05) -> list[str]:
        """The steps taken for the run until nothing is left to do now."""
        parts: dict[str, Any] = {"ledger": self.ledger, "jobs": self.jobs, "pods": self.pods}
        loop = Reconciler(
            PLACE,
            queue=self.queue,
            actions=cast(Actions, self.hands),
            policy=Policy,
            idle=self._count,
            late=self._count_late,
            heard=self.heard.append,
            **parts,
        )
        task = asyncio.create_task(loop.run())
        self.queue.add(RUN_ID)
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [type(step).__name__ for step in self.hands.taken]

    def know(self, current: Any) -> None:
        now = time.monotonic()
        self.ledger.of(RUN_ID).heard(current, asked_at=now, now=now)

    def _count(self) -> None:
        self.idle += 1

    def _count_late(self) -> None:
        self.late += 1


async def test_a_step_without_effect_backs_off(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.know(run("RUNNING"))
    assert await bench.work() == ["ReadHistory"] * REPEATS
    assert "ReadHistory has no effect; again in 1 s" in caplog.text
    assert bench.queue.back_off(RUN_ID) == 2
    bench.queue.close()


async def test_steps_follow_each_other_until_nothing_is_left() -> None:
    def do(run_id: UUID, step: steps.Step) -> None:
        if isinstance(step, steps.ReadHistory):
            bench.ledger.of(run_id).disown()

    bench = Bench(do)
    bench.know(run("RUNNING"))
    assert await bench.work() == ["ReadHistory"]
    assert len(bench.queue) == 0


async def test_what_nobody_asks_for_is_forgotten_without_a_request() -> None:
    bench = Bench(lambda run_id, step: bench.ledger.drop(run_id))
    bench.jobs.put(job(ended="Complete", ttl=60))
    bench.jobs.remove("uid-claim")
    bench.pods.put(pod(phase="Succeeded"))
    bench.pods.remove("uid-pod-claim")
    assert await bench.work() == ["Forget"]
    assert len(bench.ledger) == 0
    assert bench.jobs.departed(str(RUN_ID)) == bench.pods.departed(str(RUN_ID)) == ()
    assert bench.idle == 1


async def test_an_offer_that_came_too_late_asks_for_another() -> None:
    def do(run_id: UUID, step: steps.Step) -> None:
        bench.ledger.of(run_id).offered_at = None
        if isinstance(step, steps.Forget):
            bench.ledger.drop(run_id)

    bench = Bench(do)
    bench.know(run("SCHEDULED"))
    bench.ledger.of(RUN_ID).offered_at = time.monotonic() - 60
    assert await bench.work() == ["Withdraw", "Forget"]
    assert bench.late == 1


async def test_the_end_of_a_job_may_have_freed_a_slot() -> None:
    def do(run_id: UUID, step: steps.Step) -> None:
        bench.jobs.put(job(ended="Complete", ttl=60))

    bench = Bench(do)
    bench.know(run("SCHEDULED"))
    bench.jobs.put(job(ended="Complete"))
    assert await bench.work() == ["StartTtl"]
    assert bench.idle == 1


async def test_nothing_is_decided_before_both_caches_are_synced() -> None:
    bench = Bench()
    bench.pods.synced.clear()
    bench.know(run("RUNNING"))
    assert await bench.work() == []
    bench.queue.close()


async def test_a_failed_step_delays_its_run_and_is_heard_of() -> None:
    def do(run_id: UUID, step: steps.Step) -> None:
        raise PrefectUnavailable("no answer", retry_after=9)

    bench = Bench(do)
    bench.know(run("RUNNING"))
    assert await bench.work() == ["ReadHistory"]
    assert [str(error) for error in bench.heard] == ["no answer"]
    bench.queue.add(RUN_ID)
    assert len(bench.queue) == 0
    bench.queue.close()


async def test_a_defect_in_a_step_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    def do(run_id: UUID, step: steps.Step) -> None:
        if len(bench.hands.taken) == 1:
            bench.queue.add(RUN_ID)
            raise ZeroDivisionError
        bench.ledger.of(run_id).disown()

    bench = Bench(do)
    bench.know(run("RUNNING"))
    assert await bench.work() == ["ReadHistory"] * 2
    assert "a defect of the operator" in caplog.text
    bench.queue.close()


async def test_a_job_of_another_server_is_told_apart() -> None:
    bench = Bench(lambda run_id, step: bench.ledger.drop(run_id))
    record = bench.ledger.of(RUN_ID)
    bench.jobs.put(job())
    record.heard(None, asked_at=time.monotonic(), now=time.monotonic())
    assert await bench.work() == ["Forget"]
