"""How a worker of our type claims the runs that it polled, on real servers."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.suspended_pool import SuspendedPool
from tests.support.worker_type import WorkerHarness
from workpool_operator.worker import KubernetesJobWorker

# Claims


async def test_a_run_that_another_client_claims_first_gets_no_job_and_frees_its_slot(
    api: PrefectApi,
    kube: Kube,
    worker_pool: SuspendedPool,
    harness: WorkerHarness,
    prefect_proxy: FaultProxy,
) -> None:
    """docs/conformance.md, 6."""
    run = await worker_pool.run()

    def claim(_: object) -> None:
        body = json.dumps({"state": {"type": "PENDING"}}).encode()
        url = f"{api.url}/flow_runs/{run['id']}/set_state"
        urlopen(Request(url, body, {"Content-Type": "application/json"})).close()

    prefect_proxy.on("POST", r"/get_scheduled_flow_runs$").once().after().run(claim)
    async with harness.worker(limit=1) as worker:
        await worker.get_and_submit_flow_runs()
        await settled(worker)
    assert await kube.list("jobs", worker_pool.namespace) == []


async def settled(worker: KubernetesJobWorker, *, slots: int = 0) -> None:
    """Wait until no submission is in progress and so many slots are taken: Prefect's worker frees a
    slot a moment after the submission."""

    async def seen() -> tuple[int, int]:
        taken = worker._limiter.borrowed_tokens if worker._limiter else 0
        return len(worker._submitting_flow_run_ids), taken

    await poll(seen, until=lambda counts: counts == (0, slots))


async def test_only_one_of_two_workers_that_claim_a_run_at_once_follows_it(
    api: PrefectApi,
    kube: Kube,
    worker_pool: SuspendedPool,
    harness: WorkerHarness,
    prefect_proxy: FaultProxy,
) -> None:
    """docs/conformance.md, 6: both propose the same transition id; one proposal is accepted."""
    run = await worker_pool.run()
    late = prefect_proxy.on("POST", r"/set_state$").nth(1).hold()
    accepted = prefect_proxy.on("POST", r"/set_state$").nth(2).after().hold()
    async with (
        harness.worker(name="first", limit=1) as first,
        harness.worker(name="second", limit=1) as second,
    ):
        await first.get_and_submit_flow_runs()
        await late.wait()
        await second.get_and_submit_flow_runs()
        await accepted.wait()
        late.release()
        await settled(first)
        accepted.release()
        await worker_pool.recorded(run)
        await settled(second, slots=1)
    await worker_pool.only_job(kube)
    assert (await api.state_names(run["id"])).count("Pending") == 1


@pytest.mark.parametrize("faulty", ["set_state", "jobs"])
async def test_a_lost_answer_causes_neither_a_second_claim_nor_a_second_job(
    faulty: str,
    api: PrefectApi,
    kube: Kube,
    worker_pool: SuspendedPool,
    harness: WorkerHarness,
    prefect_proxy: FaultProxy,
    kube_proxy: FaultProxy,
) -> None:
    """docs/conformance.md, 22."""
    run = await worker_pool.run()
    proxy = prefect_proxy if faulty == "set_state" else kube_proxy
    lost = proxy.on("POST", rf"/{faulty}$").once().after().drop()
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        await lost.wait()
        await worker_pool.recorded(run)
        await worker_pool.only_job(kube)
    assert (await api.state_names(run["id"])).count("Pending") == 1


async def test_a_run_that_a_client_keeps_pending_is_never_touched(
    api: PrefectApi, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 24b: a client still uploads its bundle."""
    run = await worker_pool.run(state="PENDING")
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        assert (await api.read_run(run["id"]))["state_name"] == "Pending"
        await api.set_state(run["id"], "SCHEDULED")
        await worker.get_and_submit_flow_runs()
        await worker_pool.recorded(run)
        await worker_pool.only_job(kube)


# Deployments


async def test_a_run_whose_deployment_was_deleted_is_cancelled_and_frees_its_slot(
    api: PrefectApi, worker_pool: SuspendedPool, harness: WorkerHarness, prefect_proxy: FaultProxy
) -> None:
    """docs/conformance.md, 18: the stock worker never releases the slot."""
    run = await worker_pool.run()
    prefect_proxy.on("GET", r"/deployments/").answer(404, json={"detail": "Deployment not found"})
    async with harness.worker(limit=1) as worker:
        await worker.get_and_submit_flow_runs()
        run = await api.wait_for_state(run["id"], "CANCELLED", seconds=30)
        assert "no longer exists" in run["state"]["message"]
        await settled(worker)


async def test_an_error_of_the_api_leaves_a_run_to_the_next_poll(
    api: PrefectApi, worker_pool: SuspendedPool, harness: WorkerHarness, prefect_proxy: FaultProxy
) -> None:
    """docs/conformance.md, 19: the stock worker exits."""
    run = await worker_pool.run()
    prefect_proxy.on("GET", r"/deployments/").once().answer(500)
    async with harness.worker(limit=1) as worker:
        await worker.get_and_submit_flow_runs()
        await settled(worker)
        assert (await api.read_run(run["id"]))["state_type"] == "SCHEDULED"
        await worker.get_and_submit_flow_runs()
        await worker_pool.recorded(run)


async def test_a_claimed_run_outlasts_an_error_of_the_api(
    api: PrefectApi, worker_pool: SuspendedPool, harness: WorkerHarness, prefect_proxy: FaultProxy
) -> None:
    run = await worker_pool.run()
    failed = prefect_proxy.on("GET", r"/flows/").once().answer(500)
    prefect_proxy.on("PATCH", r"/labels$").once().answer(500)
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        await failed.wait()
        await worker_pool.recorded(run)


async def test_a_run_without_a_deployment_runs_the_command_it_was_given(
    api: PrefectApi,
    kube: Kube,
    worker_pool: SuspendedPool,
    harness: WorkerHarness,
    prefect_proxy: FaultProxy,
) -> None:
    """docs/conformance.md, 24a."""
    flow = await api.one("POST", "/flows/", {"name": "hello"})
    body = {
        "flow_id": flow["id"],
        "work_pool_name": worker_pool.name,
        "state": {"type": "SCHEDULED"},
        "job_variables": {"namespace": worker_pool.namespace, "command": "python -m mine --now"},
    }
    run = await api.one("POST", "/flow_runs/", body)
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        await worker_pool.recorded(run)
    job = await worker_pool.only_job(kube)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["python", "-m", "mine", "--now"]
    assert not [key for key in job["metadata"]["labels"] if key.startswith("prefect.io/deployment")]
    assert prefect_proxy.calls("/deployments/") == []
