"""The reconciler executes one action after the other, and does not repeat one endlessly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.cluster_cache import synced_cluster, unsynced_cluster
from tests.support.controller import OfflineController
from tests.support.snapshots import RUN_ID, job, pod, run
from workpool_operator.errors import KubernetesForbidden, OperatorError, PrefectUnavailable
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.kube.event_recorder import EventRecorder
from workpool_operator.kube.models import Job
from workpool_operator.metrics import Metrics
from workpool_operator.runs import actions
from workpool_operator.runs.executor import Executor
from workpool_operator.runs.job_creator import JobCreator
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.progress import RunObserver
from workpool_operator.runs.reconciler import REPEATS
from workpool_operator.runs.settings import RunSettings
from workpool_operator.runs.state_proposals import StateProposals
from workpool_operator.runs.workqueue import WorkQueue


class FakeExecutor(Executor):
    """Writes nothing but what a test says; what needs no request it carries out."""

    def __init__(self, do: Callable[[UUID, actions.Action], None], **parts: Any) -> None:
        absent: Any = None
        super().__init__(
            kube=cast("KubernetesClient", absent),
            proposals=cast("StateProposals", self),
            job_creator=cast("JobCreator", absent),
            settings=RunSettings,
            recorder=cast("EventRecorder", absent),
            **parts,
        )
        self.taken: list[actions.Action] = []
        self._do = do

    async def execute(self, run_id: UUID, action: actions.Action) -> bool:
        if not isinstance(action, actions.NoAction | actions.RequeueAfter):
            self.taken.append(action)
        return await super().execute(run_id, action)

    async def _execute_remote(self, run_id: UUID, action: Any) -> None:
        if isinstance(action, actions.SetJobTTL):
            await self._execute_in_kubernetes(run_id, action)
        else:
            self._do(run_id, action)

    async def _set_job_ttl(self, _: UUID, job: Job) -> None:
        self._do(RUN_ID, actions.SetJobTTL(job))

    def log(self, *_: Any) -> None:
        """No log."""


class Controller(OfflineController):
    """A controller whose executor is the test's."""

    def __init__(self, do: Callable[[UUID, actions.Action], None], **parts: Any) -> None:
        self._do = do
        super().__init__(**parts)

    def _make_executor(self, *_: Any) -> FakeExecutor:
        self.queue = WorkQueue(jitter=lambda *_: 1.0)
        return FakeExecutor(
            self._do,
            namespace_of=self.namespace_of,
            queue=self.queue,
            store=self.store,
            cluster=self._cluster,
            listener=self._listener,
            holds_lease=self._holds_lease,
        )


class Bench(Listener):
    """A reconciler with the test's executor, and what it reported."""

    def __init__(
        self,
        do: Callable[[UUID, actions.Action], None] = lambda *_: None,
        *,
        cluster: ClusterCache | None = None,
        holds_lease: Callable[[], bool] = lambda: True,
        observer: RunObserver | None = None,
    ) -> None:
        cluster = cluster or synced_cluster()
        self.jobs, self.pods = cluster.jobs, cluster.pods
        self.freed = self.expired = 0
        self.reported: list[OperatorError] = []
        self.controller = Controller(
            do, cluster=cluster, listener=self, holds_lease=holds_lease, observer=observer
        )
        self.queue, self.store = self.controller.queue, self.controller.store
        self.executor = cast("FakeExecutor", self.controller._executor)

    async def work(self, seconds: float = 0.05) -> list[str]:
        """Reconcile; return the actions until nothing was left to do now."""
        loop = self.controller._make_reconciler()
        task = asyncio.create_task(loop.run())
        self.queue.add(RUN_ID)
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [type(action).__name__ for action in self.executor.taken]

    def know(self, current: Any) -> None:
        self.store.apply(RUN_ID, current, asked_at=time.monotonic())

    def mark_foreign(self) -> None:
        """Mark the run's state as foreign."""
        self.store.put(RUN_ID, self.store.of(RUN_ID).mark_foreign())

    def capacity_freed(self) -> None:
        self.freed += 1

    def prefect_failed(self, error: PrefectUnavailable) -> None:
        self.reported.append(error)

    def run_due(self) -> None:
        self.expired += 1


async def test_an_action_without_effect_backs_off(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.know(run("RUNNING"))
    assert await bench.work() == ["RefreshStateHistory"] * REPEATS
    assert "RefreshStateHistory has no effect; retrying in 1 s" in caplog.text
    assert bench.queue.add_rate_limited(RUN_ID) == 2
    bench.queue.close()


async def test_actions_follow_each_other_until_nothing_is_left_to_do() -> None:
    def do(run_id: UUID, action: actions.Action) -> None:
        if isinstance(action, actions.RefreshStateHistory):
            bench.mark_foreign()

    bench = Bench(do)
    bench.know(run("RUNNING"))
    assert await bench.work() == ["RefreshStateHistory"]
    assert len(bench.queue) == 0


async def test_a_deleted_job_of_an_unknown_run_is_forgotten_without_a_request() -> None:
    bench = Bench()
    bench.jobs.put(job(ended="Complete", ttl=60))
    bench.jobs.remove("uid-claim")
    bench.pods.put(pod(phase="Succeeded"))
    bench.pods.remove("uid-pod-claim")
    assert await bench.work() == ["ForgetRun"]
    assert len(bench.store) == 0
    assert bench.jobs.tombstones(str(RUN_ID)) == ()
    assert bench.pods.tombstones(str(RUN_ID)) == ()
    assert bench.freed == 1


async def test_an_expired_offer_causes_a_new_poll() -> None:
    bench = Bench()
    bench.know(run("SCHEDULED"))
    offered = replace(bench.store.of(RUN_ID), offered_at=time.monotonic() - 60)
    bench.store.put(RUN_ID, offered)
    assert await bench.work() == ["DropOffer", "ForgetRun"]
    assert bench.expired == 1


async def test_a_run_that_was_put_off_until_now_causes_a_poll() -> None:
    bench = Bench()
    bench.know(run("SCHEDULED"))
    past = datetime.now(UTC) - timedelta(seconds=1)
    bench.store.put(RUN_ID, replace(bench.store.of(RUN_ID), not_before=past))
    assert await bench.work() == ["PollAgain", "ForgetRun"]
    assert bench.expired == 1


async def test_the_end_of_a_job_may_have_freed_a_slot() -> None:
    def do(run_id: UUID, action: actions.Action) -> None:
        bench.jobs.put(job(ended="Complete", ttl=60))

    bench = Bench(do)
    bench.know(run("SCHEDULED"))
    bench.jobs.put(job(ended="Complete"))
    assert await bench.work() == ["SetJobTTL"]
    assert bench.freed == 1


async def test_nothing_is_decided_before_both_caches_are_synced() -> None:
    bench = Bench(cluster=unsynced_cluster())
    bench.know(run("RUNNING"))
    assert await bench.work() == []
    bench.queue.close()


async def test_a_failed_action_delays_its_run_and_is_reported() -> None:
    def do(run_id: UUID, action: actions.Action) -> None:
        raise PrefectUnavailable("no answer", retry_after=9)

    bench = Bench(do)
    bench.know(run("RUNNING"))
    assert await bench.work() == ["RefreshStateHistory"]
    assert [str(error) for error in bench.reported] == ["no answer"]
    bench.queue.add(RUN_ID)
    assert len(bench.queue) == 0
    bench.queue.close()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (PrefectUnavailable("no answer"), "prefect"),
        (KubernetesForbidden("no right"), "kubernetes"),
        (ValueError("a bug"), "operator"),
    ],
)
async def test_a_failed_action_is_counted_by_its_cause(error: Exception, cause: str) -> None:
    def do(run_id: UUID, action: actions.Action) -> None:
        raise error

    metrics = Metrics()
    bench = Bench(do, observer=metrics.runs_of("data", "etl"))
    bench.know(run("RUNNING"))
    await bench.work()
    labels = {"binding_namespace": "data", "binding": "etl", "cause": cause}
    assert metrics.value("action_failures_total", **labels) == 1
    bench.queue.close()


async def test_without_the_lease_a_run_is_read_but_nothing_is_written() -> None:
    done: list[str] = []

    def do(run_id: UUID, action: actions.Action) -> None:
        done.append(type(action).__name__)
        bench.mark_foreign()

    bench = Bench(do, holds_lease=lambda: False)
    bench.know(run("RUNNING"))
    await bench.work()
    assert done == ["RefreshStateHistory"]
    bench.know(run("SCHEDULED"))
    bench.jobs.put(job(ended="Complete"))
    assert (await bench.work())[-1] == "SetJobTTL"
    assert done == ["RefreshStateHistory"]
    bench.queue.close()


async def test_a_bug_in_an_action_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    def do(run_id: UUID, action: actions.Action) -> None:
        if len(bench.executor.taken) == 1:
            bench.queue.add(RUN_ID)
            raise ZeroDivisionError
        bench.mark_foreign()

    bench = Bench(do)
    bench.know(run("RUNNING"))
    assert await bench.work() == ["RefreshStateHistory"] * 2
    assert "a bug in the operator" in caplog.text
    bench.queue.close()


async def test_a_job_of_another_server_is_recognised() -> None:
    bench = Bench()
    bench.jobs.put(job())
    bench.know(None)
    assert await bench.work() == ["ForgetRun"]


async def test_thousands_of_queued_runs_leave_turns_for_other_bindings() -> None:
    """For example after a resync; nothing is to be done for most of them."""
    bench, turns = Bench(), 0
    for number in range(2000):
        bench.queue.add(UUID(int=number))

    async def other_binding() -> None:
        nonlocal turns
        while len(bench.queue):
            turns += 1
            await asyncio.sleep(0)

    loops = [asyncio.create_task(bench.controller._make_reconciler().run()) for _ in range(16)]
    await other_binding()
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    assert turns >= 2000 / 16
