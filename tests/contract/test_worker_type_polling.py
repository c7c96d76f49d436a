"""Which runs a worker of our type takes: Prefect's own rules for workers, on real servers."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import temporary_settings

from testbed.clusters import Cluster
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi
from tests.support.suspended_pool import SuspendedPool
from tests.support.worker_type import TYPE, WorkerHarness
from workpool_operator.worker import KubernetesJobWorker


async def submitted(worker: KubernetesJobWorker) -> set[str]:
    """Poll once, and return the ids of the runs that it submits."""
    return {str(run.id) for run in await worker.get_and_submit_flow_runs()}


async def test_exactly_the_runs_that_are_due_within_the_prefetch_are_submitted(
    worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 1."""
    due = [
        await worker_pool.run(due_in=-86_400),
        await worker_pool.run(due_in=5),
        await worker_pool.run(due_in=5),
    ]
    await worker_pool.run(due_in=60)
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        await worker_pool.run(state=state)
    async with harness.worker(prefetch_seconds=30) as worker:
        assert await submitted(worker) == {run["id"] for run in due}


async def test_a_prefetch_of_zero_takes_what_is_due_now(
    worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 10."""
    now = await worker_pool.run(due_in=-1)
    await worker_pool.run(due_in=60)
    async with harness.worker(prefetch_seconds=0) as worker:
        assert await submitted(worker) == {now["id"]}
        assert worker.get_status()["settings"]["prefetch_seconds"] == 0


async def test_only_the_named_queues_are_polled(
    worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 2."""
    await worker_pool.queue("mine", priority=2)
    mine = await worker_pool.run(queue="mine")
    await worker_pool.run(queue="default")
    async with harness.worker(work_queues=["mine"]) as worker:
        assert await submitted(worker) == {mine["id"]}


async def test_a_queues_priority_counts_more_than_how_late_a_run_is(
    worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 3."""
    await worker_pool.queue("low", priority=9)
    await worker_pool.run(queue="low", due_in=-86_400)
    first = await worker_pool.run(queue="default", due_in=1)
    async with harness.worker(limit=1) as worker:
        assert await submitted(worker) == {first["id"]}


async def test_a_limit_holds_until_a_runs_job_is_gone(
    api: PrefectApi, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 4."""
    runs = {(await worker_pool.run(due_in=number))["id"] for number in (-3, -2, -1)}
    async with harness.worker(limit=2) as worker:
        first = await submitted(worker)
        assert len(first) == 2
        await poll(lambda: submitted(worker), until=lambda ids: not ids)
        ended = await poll(
            lambda: kube.list("jobs", worker_pool.namespace), until=lambda jobs: len(jobs) == 2
        )
        name = ended[0]["metadata"]["name"]
        over = ended[0]["metadata"]["annotations"]["prefect.io/flow-run-id"]
        await api.wait(over, until=lambda run: bool(run["infrastructure_pid"]))
        await api.set_state(over, "CANCELLED", force=True)
        await kube.delete("jobs", worker_pool.namespace, name)
        third = await poll(lambda: submitted(worker), until=bool)
        assert third == runs - first


async def test_a_run_that_its_own_process_retries_is_left_to_that_process(
    api: PrefectApi, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 5."""
    retried = await worker_pool.run()
    await api.update_run(retried["id"], empirical_policy={"retry_type": "in_process"})
    async with harness.worker() as worker:
        assert await submitted(worker) == set()


async def test_a_missing_pool_is_created_with_our_template(
    api: PrefectApi, prefect_server: Endpoint, cluster: Cluster
) -> None:
    """docs/conformance.md, 11."""
    harness = WorkerHarness(f"new-{uuid.uuid4().hex[:8]}", prefect_server.url, cluster.kubeconfig)
    async with harness.worker() as worker:
        made = await api.read_pool(harness.pool)
        assert made["type"] == TYPE
        assert made["base_job_template"] == KubernetesJobWorker.get_default_base_job_template()
        assert worker.get_status()["work_pool"]["id"] == made["id"]
        assert await submitted(worker) == set()
    await api.delete_pool(harness.pool)


async def test_a_missing_pool_that_the_worker_may_not_create_is_waited_for(
    prefect_server: Endpoint, cluster: Cluster, api: PrefectApi
) -> None:
    """docs/conformance.md, 11."""
    harness = WorkerHarness(f"none-{uuid.uuid4().hex[:8]}", prefect_server.url, cluster.kubeconfig)
    async with harness.worker(create_pool_if_not_found=False) as worker:
        assert worker.get_status()["work_pool"] is None
        assert await submitted(worker) == set()
    assert not await api.many("POST", "/work_pools/filter", {"work_pools": named(harness.pool)})


def named(name: str) -> Object:
    return {"name": {"any_": [name]}}


async def test_a_pool_without_a_template_gets_ours(
    api: PrefectApi, prefect_server: Endpoint, cluster: Cluster
) -> None:
    """docs/conformance.md, 12."""
    harness = WorkerHarness(f"bare-{uuid.uuid4().hex[:8]}", prefect_server.url, cluster.kubeconfig)
    await api.one("POST", "/work_pools/", {"name": harness.pool, "type": TYPE})
    async with harness.worker() as worker:
        ours = KubernetesJobWorker.get_default_base_job_template()
        assert worker.work_pool.base_job_template == ours
    await api.delete_pool(harness.pool)


async def test_a_server_that_cannot_be_reached_at_the_start_is_waited_for(
    prefect_proxy: FaultProxy, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 13."""
    run = await worker_pool.run()
    async with AsyncExitStack() as stack:
        with prefect_proxy.offline():
            patient = harness.worker(settings={"client.max_retries": 0})
            worker = await stack.enter_async_context(patient)
            assert await submitted(worker) == set()
        await worker.sync_with_backend()
        assert await submitted(worker) == {run["id"]}


async def test_a_server_that_asks_to_come_back_later_is_polled_again(
    prefect_proxy: FaultProxy, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """Prefect's own loop ends the worker for a 429."""
    run = await worker_pool.run()
    async with harness.worker(settings={"client.max_retries": 0}) as worker:
        prefect_proxy.on("POST", r"/get_scheduled_flow_runs$").once().answer(429)
        assert await submitted(worker) == set()
        assert await submitted(worker) == {run["id"]}


async def test_credentials_that_are_refused_at_the_start_end_the_worker(
    prefect_proxy: FaultProxy, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 13."""
    prefect_proxy.on("*", r"/work_pools/").answer(401)
    with pytest.raises(PrefectHTTPStatusError, match="401"):
        async with harness.worker():
            pass


async def test_without_a_server_the_worker_names_the_missing_setting() -> None:
    """docs/conformance.md, 14."""
    with temporary_settings(updates={"api.url": None}):
        worker = KubernetesJobWorker(work_pool_name="any")
        with pytest.raises(ValueError, match="PREFECT_API_URL"):
            async with worker:
                pass


async def test_an_unreachable_cluster_stops_the_polls_but_not_the_worker(
    worker_pool: SuspendedPool,
    prefect_server: Endpoint,
    cluster: Cluster,
    tmp_path: Path,
    caplog: Any,
) -> None:
    run = await worker_pool.run()
    kubeconfig = tmp_path / "kubeconfig"
    harness = WorkerHarness(worker_pool.name, prefect_server.url, kubeconfig)
    async with harness.worker() as worker:
        assert await submitted(worker) == set()
        assert (await worker_pool.api.read_run(run["id"]))["state_type"] == "SCHEDULED"
        assert worker.is_worker_still_polling(query_interval_seconds=1)
        kubeconfig.write_text(cluster.kubeconfig.read_text())
        assert await submitted(worker) == {run["id"]}


async def test_a_worker_that_has_not_polled_for_long_is_not_healthy(
    harness: WorkerHarness,
) -> None:
    """docs/conformance.md, 17."""
    async with harness.worker() as worker:
        assert worker.is_worker_still_polling(query_interval_seconds=10)
        worker._last_polled_time = worker._last_polled_time.replace(year=2020)
        assert not worker.is_worker_still_polling(query_interval_seconds=10)


@pytest.mark.parametrize("name", ["a/b", "100%"])
def test_a_name_that_prefect_cannot_address_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot contain"):
        KubernetesJobWorker(work_pool_name="any", name=name)


async def test_the_server_lists_the_worker_after_its_first_heartbeat(
    api: PrefectApi, harness: WorkerHarness
) -> None:
    async with harness.worker(heartbeat_interval_seconds=17) as worker:
        await worker.sync_with_backend()

        async def listed() -> list[Object]:
            return await api.workers(harness.pool)

        (found,) = await poll(listed, until=bool)
        assert found["name"] == "here"
        assert found["heartbeat_interval_seconds"] == 17
