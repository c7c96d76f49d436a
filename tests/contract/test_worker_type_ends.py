"""How a worker of our type ends its runs: kills, cancellations, clean-ups, on real servers."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.worker_channel import (
    CANCELLING_TIMEOUT_TEARDOWN,
    CancellingTimeoutCleanupMessagePayload,
)
from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound

from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.suspended_pool import SuspendedPool
from tests.support.worker_type import WorkerHarness
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.worker import KubernetesJobWorker


async def submitted(worker: KubernetesJobWorker, worker_pool: SuspendedPool) -> Object:
    """Return a run whose Job is created and recorded."""
    run = await worker_pool.run()
    await worker.get_and_submit_flow_runs()
    return await worker_pool.recorded(run)


async def configuration_of(worker: KubernetesJobWorker, run: Object) -> KubernetesJobConfiguration:
    return await worker._configuration_of(FlowRun.model_validate(run))


async def gone(kube: Kube, run: Object) -> None:
    """Wait until the run's Job is deleted."""
    namespace, _, name = run["infrastructure_pid"].partition(":")
    await kube.wait("jobs", namespace, name, until=lambda job: job is None)


# kill_infrastructure


async def test_a_kill_deletes_the_job_and_a_second_one_finds_none(
    kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 50."""
    async with harness.worker() as worker:
        run = await submitted(worker, worker_pool)
        configuration = await configuration_of(worker, run)
        await worker.kill_infrastructure(run["infrastructure_pid"], configuration, 5)
        await gone(kube, run)
        with pytest.raises(InfrastructureNotFound, match="does not exist"):
            await worker.kill_infrastructure(run["infrastructure_pid"], configuration, 5)


@pytest.mark.parametrize("pid", ["", "job", ":job", "namespace:", "a:b:c"])
async def test_a_malformed_infrastructure_pid_is_reported(
    pid: str, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 50."""
    async with harness.worker() as worker:
        with pytest.raises(ValueError, match="expected 'namespace:job-name'"):
            await worker.kill_infrastructure(pid, KubernetesJobConfiguration(job_manifest={}))


async def test_the_job_of_another_owner_is_not_killed(
    kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 50."""
    container = {"name": "theirs", "image": "theirs"}
    pod = {"containers": [container], "restartPolicy": "Never"}
    manifest = {
        "metadata": {"name": "theirs"},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    await kube.create("jobs", worker_pool.namespace, manifest)
    async with harness.worker() as worker:
        with pytest.raises(
            InfrastructureNotAvailable, match="not created by a worker of this pool"
        ):
            await worker.kill_infrastructure(
                f"{worker_pool.namespace}:theirs", KubernetesJobConfiguration(job_manifest={})
            )
    assert await kube.get("jobs", worker_pool.namespace, "theirs")


async def test_a_job_of_another_cluster_is_not_reported_as_deleted(
    worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """If the worker answered "not found", the other cluster's Job would keep running."""
    async with harness.worker() as worker:
        run = await submitted(worker, worker_pool)
        configuration = await configuration_of(worker, run)
        elsewhere = f"{worker_pool.namespace}:hello-0123456789ab"
        with pytest.raises(
            InfrastructureNotAvailable, match="not created by a worker of this pool"
        ):
            await worker.kill_infrastructure(elsewhere, configuration, 5)


# Cancellations


@pytest.mark.parametrize("observer", [False, True], ids=["alone", "with Prefect's own observer"])
async def test_a_pending_run_that_is_cancelled_ends_with_its_job(
    observer: bool, api: PrefectApi, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 65."""
    async with harness.worker(settings={"worker.enable_cancellation": observer}, limit=1) as worker:
        run = await submitted(worker, worker_pool)
        await api.cancel(run["id"])
        if observer:
            await worker._cancel_run(UUID(run["id"]))
        await api.wait_for_state(run["id"], "CANCELLED", seconds=30)
        await gone(kube, run)
        await poll(lambda: taken_slots(worker), until=lambda slots: slots == 0)


async def taken_slots(worker: KubernetesJobWorker) -> int:
    return int(worker.limiter.borrowed_tokens)


async def test_prefects_observer_leaves_a_run_that_has_started_to_its_own_process(
    api: PrefectApi, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 65."""
    async with harness.worker() as worker:
        run = await submitted(worker, worker_pool)
        await api.set_state(run["id"], "RUNNING")
        await worker._cancel_run(UUID(run["id"]))
        namespace, _, name = run["infrastructure_pid"].partition(":")
        assert await kube.get("jobs", namespace, name)


# Prefect's queue of clean-ups


@pytest.mark.parametrize(
    ("pid", "outcome"),
    [
        pytest.param("own", "success", id="the Job"),
        pytest.param("own, gone", "success", id="a Job that was deleted"),
        pytest.param("elsewhere", "infrastructure_not_available", id="a Job of another cluster"),
        pytest.param(None, "missing_infrastructure_handle", id="no pid in the message"),
    ],
)
async def test_a_clean_up_that_prefect_requests_succeeds_or_fails_with_the_reason(
    pid: str | None, outcome: str, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 66."""
    async with harness.worker() as worker:
        run = await submitted(worker, worker_pool)
        named = run["infrastructure_pid"]
        if pid == "own, gone":
            await worker.kill_infrastructure(named, await configuration_of(worker, run))
            await gone(kube, run)
        if pid == "elsewhere":
            named = f"{worker_pool.namespace}:hello-0123456789ab"
        handler = worker.cleanup_handler_registry.get(CANCELLING_TIMEOUT_TEARDOWN)
        assert handler is not None
        result = await handler.cleanup(order(run, named if pid else None))
        assert outcome_of(result) == outcome
        if outcome == "success":
            await gone(kube, run)


def order(run: Object, pid: str | None) -> CancellingTimeoutCleanupMessagePayload:
    """The server's message to clean up after the run."""
    return CancellingTimeoutCleanupMessagePayload.model_validate(
        {
            "message_id": uuid.uuid4(),
            "reservation_token": "token",
            "lease_expires_at": datetime.now(UTC) + timedelta(seconds=30),
            "delivery_count": 1,
            "kind": CANCELLING_TIMEOUT_TEARDOWN,
            "target": {"flow_run_id": run["id"], "infrastructure_pid": pid},
        }
    )


def outcome_of(result: Any) -> str:
    return str(result.reason or "success")


# Flows that are submitted without a deployment, and runs that were not polled


async def test_a_run_that_is_given_to_the_worker_directly_is_claimed_and_followed(
    api: PrefectApi, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    async with harness.worker() as worker:
        run = await worker_pool.run(state="PENDING")
        flow_run = FlowRun.model_validate(await api.read_run(run["id"]))
        configuration = await configuration_of(worker, run)
        assert worker._runs_task_group is not None
        started = await worker._runs_task_group.start(
            lambda task_status: worker.run(flow_run, configuration, task_status)
        )
        assert (await kube.list("jobs", worker_pool.namespace))[0]["metadata"]["name"] in started


async def test_a_flow_that_is_submitted_without_a_deployment_goes_through_the_pool(
    api: PrefectApi, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    async with harness.worker() as worker:
        run = await worker_pool.run(state="PENDING")
        flow_run = FlowRun.model_validate(await api.read_run(run["id"]))
        await worker._initiate_run(flow_run, await configuration_of(worker, run))
        assert (await api.read_run(run["id"]))["state_type"] == "SCHEDULED"


# Another worker's runs


async def test_a_claim_without_a_job_is_continued_although_an_earlier_attempt_left_its_pid(
    api: PrefectApi,
    kube: Kube,
    kube_proxy: FaultProxy,
    worker_pool: SuspendedPool,
    harness: WorkerHarness,
) -> None:
    """docs/conformance.md, 21, at a retry: the recorded pid is the last attempt's."""
    run = await worker_pool.run()
    await api.update_run(
        run["id"], infrastructure_pid=f"{worker_pool.namespace}:hello-0123456789ab"
    )
    refused = kube_proxy.on("POST", r"/jobs$").answer(503)
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        await refused.wait()
    kube_proxy.forget()
    async with harness.worker() as worker:
        assert await worker.get_and_submit_flow_runs() == []
        (job,) = await poll(lambda: kube.list("jobs", worker_pool.namespace), until=bool)
        pid = f"{worker_pool.namespace}:{job['metadata']['name']}"
        await api.wait(run["id"], until=lambda run: run["infrastructure_pid"] == pid)


async def test_a_rescheduled_run_waits_until_its_previous_job_has_ended(
    api: PrefectApi, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """Race 12 across a restart: two pods of one run must not overlap."""
    async with harness.worker() as worker:
        run = await submitted(worker, worker_pool)
    await api.set_state(run["id"], "SCHEDULED", name="AwaitingRetry", message="by a person")
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        await asyncio.sleep(1)
        assert (await api.read_run(run["id"]))["state_name"] == "AwaitingRetry"
        namespace, _, name = run["infrastructure_pid"].partition(":")
        await kube.delete("jobs", namespace, name)
        await gone(kube, run)

        async def again() -> Object:
            await worker.get_and_submit_flow_runs()
            return await api.read_run(run["id"])

        await poll(again, until=lambda found: found["infrastructure_pid"] != f"{namespace}:{name}")


async def test_the_runs_of_an_earlier_worker_are_followed_and_count_against_the_limit(
    api: PrefectApi, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """They exceed the limit: no new run gets a slot before each of them has one."""
    async with harness.worker() as worker:
        left = [await submitted(worker, worker_pool) for _ in range(2)]
    new = await worker_pool.run()
    async with harness.worker(limit=1, name=uuid.uuid4().hex[:8]) as worker:
        for over in left:
            assert await worker.get_and_submit_flow_runs() == []
            await api.set_state(over["id"], "CANCELLED", force=True)
            await gone(kube, over)

        async def polled() -> list[str]:
            return [str(run.id) for run in await worker.get_and_submit_flow_runs()]

        assert await poll(polled, until=bool) == [new["id"]]


async def test_a_late_report_of_an_end_does_not_change_a_run_that_was_claimed_again(
    kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """Its pod was evicted, its SIGTERM handler rescheduled it, and another worker claimed it."""
    async with harness.worker() as worker:
        idle = await _tasks(worker)
        run = await submitted(worker, worker_pool)
        await worker_pool.api.set_state(run["id"], "RUNNING")
        await worker_pool.api.set_state(run["id"], "SCHEDULED", name="AwaitingRetry")
        await worker_pool.api.set_state(run["id"], "PENDING")
        namespace, _, name = run["infrastructure_pid"].partition(":")
        await kube.delete("jobs", namespace, name)
        await gone(kube, run)
        await poll(lambda: _tasks(worker), until=lambda tasks: tasks <= idle)
    states = await worker_pool.api.states(run["id"])
    assert [state["type"] for state in states[-2:]] == ["SCHEDULED", "PENDING"]


async def _tasks(worker: KubernetesJobWorker) -> set[Any]:
    """The worker's own tasks, and one per run, which ends after the last report on the run."""
    group: Any = worker._runs_task_group
    return set(group._tasks)
