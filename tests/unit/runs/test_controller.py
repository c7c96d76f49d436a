"""In which namespace a run's Job is, which process continues with a claim, and which events have a
run read again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.cluster_cache import synced_cluster, unsynced_cluster
from tests.support.controller import OWNER, OfflineController
from tests.support.snapshots import RUN_ID, claim, id_of, job, job_name, pending, run, state
from workpool_operator.kube.client import JOBS, PODS
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.prefect_api.events import StateChange
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs import actions
from workpool_operator.runs.executor import Executor
from workpool_operator.runs.listener import Listener

WORKER = replace(OWNER, namespace="", shares_transition_ids=True)


class Recorder:
    """An executor that records the actions and writes nothing."""

    def __init__(self, controller: Worker) -> None:
        self.taken: list[str] = []
        self._controller = controller

    async def execute(self, run_id: Any, action: actions.Action) -> bool:
        """Record the action; claim as the test demands."""
        if not isinstance(action, actions.NoAction | actions.RequeueAfter):
            self.taken.append(type(action).__name__)
        if isinstance(action, actions.ClaimRun):
            self._controller.know(pending(), claimed_here=self._controller.granted)
            return True
        return False


class Worker(OfflineController):
    """The controller of a worker, whose claims are `granted` or found to be another process's."""

    def __init__(self, *, cluster: ClusterCache | None = None, granted: bool = True) -> None:
        self.granted = granted
        super().__init__(owner=WORKER, cluster=cluster or synced_cluster())
        self.recorder = Recorder(self)
        self._executor = cast("Executor", self.recorder)

    def know(self, state: Any, *, pid: str | None = None, **facts: Any) -> None:
        """Put the run into this state, under a claim of ours unless it is SCHEDULED."""
        current = run(state, pid=pid)
        self.store.apply(RUN_ID, current, asked_at=time.monotonic())
        ours = claim() if current.state_type != "SCHEDULED" else None
        self.store.put(RUN_ID, replace(self.store.of(RUN_ID), claim=ours, **facts))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run one reconciler."""
        task = asyncio.create_task(self._make_reconciler().run())
        yield
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.queue.close()


async def test_the_owners_namespace_is_the_namespace_of_every_job() -> None:
    controller = OfflineController()
    assert controller.namespace_of(RUN_ID) == OWNER.namespace


async def test_without_an_owners_namespace_the_recorded_namespace_of_the_claims_job_counts() -> (
    None
):
    worker = Worker()
    assert worker.namespace_of(RUN_ID) == ""
    worker.know("RUNNING", pid=job_name("earlier"))
    assert worker.namespace_of(RUN_ID) == ""
    worker.know("RUNNING", pid=job_name())
    assert worker.namespace_of(RUN_ID) == "data"


async def test_the_namespace_of_an_unrecorded_job_is_read_from_the_cluster() -> None:
    cluster = synced_cluster()
    cluster.jobs.put(job())
    assert Worker(cluster=cluster).namespace_of(RUN_ID) == "data"


async def test_a_claimed_run_waits_until_its_namespace_is_known() -> None:
    worker = Worker()
    async with worker.working():
        handle = await worker.claim(run("SCHEDULED"), read_at=time.monotonic())
    assert handle is not None
    assert worker.recorder.taken == ["ClaimRun"]


async def test_a_claimed_run_is_reconciled_once_its_namespace_is_followed() -> None:
    worker = Worker()
    async with worker.working():
        handle = await worker.claim(run("SCHEDULED"), read_at=time.monotonic())
        assert handle is not None
        with handle.following("data"):
            await asyncio.sleep(0.05)
    assert worker.recorder.taken == ["ClaimRun", "CreateJob"]


async def test_of_two_callers_that_claim_one_run_one_gets_the_handle_and_neither_hangs() -> None:
    worker = Worker()
    async with worker.working(), asyncio.timeout(2):
        handles = await asyncio.gather(
            *(worker.claim(run("SCHEDULED"), read_at=time.monotonic()) for _ in range(2))
        )
    assert sorted(handle is None for handle in handles) == [False, True]
    assert worker.recorder.taken == ["ClaimRun"]
    assert worker._offers == {}


async def test_a_run_that_another_process_claimed_under_the_same_id_is_left_to_that_process() -> (
    None
):
    worker = Worker(granted=False)
    async with worker.working():
        assert await worker.claim(run("SCHEDULED"), read_at=time.monotonic()) is None
        worker.enqueue(RUN_ID)
    assert worker.recorder.taken == ["ClaimRun"]


async def test_the_job_of_another_process_is_recorded_if_its_namespace_is_followed() -> None:
    worker = Worker(granted=False)
    with worker._cluster.subscribe(worker):
        async with worker.working():
            assert await worker.claim(run("SCHEDULED"), read_at=time.monotonic()) is None
            worker._cluster.jobs.put(job())
    assert worker.recorder.taken == ["ClaimRun", "RecordInfrastructurePid"]


class Reports(Listener):
    """What a controller reported."""

    def __init__(self) -> None:
        self.scheduled: list[str | None] = []
        self.returned: list[UUID] = []

    def run_scheduled(self, queue: str | None) -> None:
        self.scheduled.append(queue)

    def slot_returned(self, deployment: UUID) -> None:
        self.returned.append(deployment)


def change(type_: str, name: str = "", *, id_: str = "next") -> StateChange:
    return StateChange(RUN_ID, type_, name, id_of(id_), id_of("deployment"), "default")


def knowing(current: Run) -> tuple[OfflineController, Reports]:
    reports = Reports()
    controller = OfflineController(listener=reports)
    controller.store.apply(RUN_ID, current, asked_at=time.monotonic())
    return controller, reports


@pytest.mark.parametrize(
    "known",
    [
        run(state("SCHEDULED", id_="next"), state_id=id_of("next")),
        run("SCHEDULED").with_state(state("SCHEDULED", id_="next")),
        replace(run("SCHEDULED"), state=None, state_id=id_of("next")),
    ],
    ids=["read", "in the answer to a proposal", "polled"],
)
def test_an_event_for_a_state_that_an_answer_showed_causes_no_read_and_no_poll(known: Run) -> None:
    controller, reports = knowing(known)
    controller._state_changed(change("SCHEDULED"))
    assert not controller.store.of(RUN_ID).is_stale
    assert reports.scheduled == []


def test_a_scheduled_run_that_becomes_late_is_not_read_again() -> None:
    controller, reports = knowing(run("SCHEDULED"))
    controller._state_changed(change("SCHEDULED", "Late"))
    assert not controller.store.of(RUN_ID).is_stale
    assert reports.scheduled == []


@pytest.mark.parametrize(
    ("known", "event"),
    [
        (run("SCHEDULED"), change("SCHEDULED", "Scheduled")),
        (run("RUNNING"), change("SCHEDULED", "Late")),
        (run("RUNNING"), change("COMPLETED")),
    ],
    ids=["rescheduled", "rescheduled, then late", "ended"],
)
def test_any_other_change_of_a_known_run_has_it_read(known: Run, event: StateChange) -> None:
    controller, _ = knowing(known)
    controller._state_changed(event)
    assert controller.store.of(RUN_ID).is_stale
    assert len(controller.queue) == 1


def test_a_scheduled_run_that_is_not_known_is_polled() -> None:
    reports = Reports()
    controller = OfflineController(listener=reports)
    controller._state_changed(change("SCHEDULED", "Late"))
    assert reports.scheduled == ["default"]
    assert len(controller.queue) == 0


@pytest.mark.parametrize("event", [change("COMPLETED"), change("PAUSED")])
def test_a_run_of_the_pool_that_ends_or_pauses_frees_a_slot_of_its_deployment(
    event: StateChange,
) -> None:
    reports = Reports()
    OfflineController(listener=reports)._state_changed(event)
    assert reports.returned == [id_of("deployment")]


@pytest.mark.parametrize(
    ("known", "returned"),
    [(run("RUNNING"), [id_of("deployment")]), (run("SCHEDULED", state_id=id_of("next")), [])],
    ids=["again", "as known"],
)
def test_a_run_that_is_scheduled_again_frees_a_slot_of_its_deployment(
    known: Run, returned: list[UUID]
) -> None:
    controller, reports = knowing(known)
    controller._state_changed(change("SCHEDULED"))
    assert reports.returned == returned


def test_a_new_run_frees_no_slot() -> None:
    reports = Reports()
    OfflineController(listener=reports)._state_changed(change("SCHEDULED"))
    assert reports.returned == []


def test_withdrawn_offers_hold_no_slot() -> None:
    controller, _ = knowing(run("SCHEDULED", deployment_id=id_of("deployment")))
    controller.store.update(RUN_ID, offered_at=time.monotonic())
    assert controller.in_flight().slots == 1
    controller.withdraw_offers(id_of("other"))
    assert controller.in_flight().slots == 1
    controller.withdraw_offers(id_of("deployment"))
    assert controller.in_flight().slots == 0


async def test_a_run_waits_without_a_timer_until_its_namespace_is_listed() -> None:
    cluster = unsynced_cluster()
    controller = OfflineController(cluster=cluster)
    controller._executor = cast("Executor", Idle())
    with cluster.subscribe(controller):
        task = asyncio.create_task(controller._make_reconciler().run())
        cluster.jobs.put(job())
        await asyncio.sleep(0.05)
        assert (len(controller.queue), controller.queue._timers) == (0, {})
        cluster._followed("data", JOBS.plural, None)
        assert len(controller.queue) == 0
        cluster._followed("data", PODS.plural, None)
        assert len(controller.queue) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    controller.queue.close()


class Idle:
    """An executor that does nothing."""

    async def execute(self, run_id: Any, action: actions.Action) -> bool:
        """Execute nothing."""
        return False
