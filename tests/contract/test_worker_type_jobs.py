"""The Jobs that a worker of our type creates for its runs, or why it creates none."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.suspended_pool import SuspendedPool
from tests.support.worker_type import TYPE, WorkerHarness
from workpool_operator.worker import KubernetesJobWorker, runtime


def variables_of(job: Object) -> dict[str, Any]:
    """The environment of the flow's container."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


async def test_a_run_and_its_job_name_their_worker_and_their_pool(
    api: PrefectApi, kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 16, 41, 44."""
    run = await worker_pool.run()
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        run = await worker_pool.recorded(run)
    pool = await api.read_pool(worker_pool.name)
    expected = {
        "prefect.worker.name": "here",
        "prefect.worker.type": TYPE,
        "prefect.work-pool.name": worker_pool.name,
        "prefect.work-pool.id": pool["id"],
    }
    assert expected.items() <= run["labels"].items()
    job = await worker_pool.only_job(kube)
    assert run["infrastructure_pid"] == f"{worker_pool.namespace}:{job['metadata']['name']}"
    attribution = {
        "PREFECT__FLOW_RUN_ID": run["id"],
        "PREFECT__WORKER_NAME": "here",
        "PREFECT__FLOW_ID": run["flow_id"],
        "PREFECT__FLOW_NAME": "hello",
        "PREFECT__DEPLOYMENT_ID": run["deployment_id"],
        "PREFECT_API_URL": harness.url,
    }
    assert attribution.items() <= variables_of(job).items()


async def test_a_template_that_changes_while_a_job_is_rendered_applies_to_the_next_run(
    kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness, prefect_proxy: FaultProxy
) -> None:
    """docs/conformance.md, 15."""
    await worker_pool.run()
    building = prefect_proxy.on("GET", r"/flows/").once().hold()
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        await building.wait()
        changed = worker.work_pool.model_copy(deep=True)
        changed.base_job_template["job_configuration"]["job_manifest"]["spec"]["parallelism"] = 7
        worker._record_work_pool_snapshot(changed)
        building.release()
        job = await worker_pool.only_job(kube)
    assert job["spec"]["parallelism"] == 1


async def test_an_invalid_configuration_ends_its_run_crashed_with_the_path(
    api: PrefectApi, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 7."""
    secret = "{{ prefect.blocks.secret.nowhere }}"
    run = await worker_pool.run(variables={"annotations": {"token": secret}})
    async with harness.worker(limit=1) as worker:
        await worker.get_and_submit_flow_runs()
        run = await api.wait_for_state(run["id"], "CRASHED", seconds=30)
        assert "Failed to submit flow run to infrastructure: RenderError" in run["state"]["message"]
        assert "nowhere" in run["state"]["message"]
        assert "annotations" in run["state"]["message"]
        await poll(lambda: taken_slots(worker), until=lambda slots: slots == 0)


@pytest.mark.parametrize(
    ("status", "answer", "facts"),
    [
        (403, "jobs.batch is forbidden", ["forbidden", "Grant"]),
        (404, "namespaces not found", ["not found", "Create the namespace"]),
        (422, "spec.template: Invalid value", ["Invalid value", "job variables"]),
    ],
)
async def test_a_job_that_is_refused_ends_its_run_with_the_fix(
    status: int,
    answer: str,
    facts: list[str],
    api: PrefectApi,
    worker_pool: SuspendedPool,
    harness: WorkerHarness,
    kube_proxy: FaultProxy,
) -> None:
    """docs/conformance.md, 45."""
    run = await worker_pool.run()
    body = {"kind": "Status", "apiVersion": "v1", "code": status, "message": answer}
    kube_proxy.on("POST", r"/jobs$").answer(status, json=body)
    async with harness.worker(limit=1) as worker:
        await worker.get_and_submit_flow_runs()
        run = await api.wait_for_state(run["id"], "CRASHED", seconds=30)
        for fact in facts:
            assert fact in run["state"]["message"]
        await poll(lambda: taken_slots(worker), until=lambda slots: slots == 0)
    assert await api.state_names(run["id"]) == ["Scheduled", "Pending", "Submitting", "Crashed"]


@pytest.mark.parametrize(
    ("request_", "facts"),
    [
        pytest.param(("GET", r"/jobs$"), ["list and watch jobs"], id="Jobs cannot be listed"),
        pytest.param(
            ("PATCH", r"/secrets/"), ["create and patch Secrets", "_SECRET_NAME"], id="no Secrets"
        ),
    ],
)
async def test_a_right_that_is_missing_in_the_jobs_namespace_ends_the_run_with_the_fix(
    request_: tuple[str, str],
    facts: list[str],
    api: PrefectApi,
    kube: Kube,
    worker_pool: SuspendedPool,
    harness: WorkerHarness,
    kube_proxy: FaultProxy,
) -> None:
    run = await worker_pool.run()
    body = {"kind": "Status", "apiVersion": "v1", "code": 403, "message": "it is forbidden"}
    kube_proxy.on(*request_).answer(403, json=body)
    async with harness.worker(limit=1, settings={"api.key": "pnu_1"}) as worker:
        await worker.get_and_submit_flow_runs()
        run = await api.wait_for_state(run["id"], "CRASHED", seconds=30)
        for fact in ("it is forbidden", "Grant", worker_pool.namespace, *facts):
            assert fact in run["state"]["message"]
        await poll(lambda: taken_slots(worker), until=lambda slots: slots == 0)
    assert await kube.list("jobs", worker_pool.namespace) == []


async def taken_slots(worker: KubernetesJobWorker) -> int:
    return int(worker.limiter.borrowed_tokens)


async def test_a_run_waits_for_a_cluster_that_does_not_answer_and_its_state_says_so(
    api: PrefectApi,
    kube: Kube,
    worker_pool: SuspendedPool,
    harness: WorkerHarness,
    kube_proxy: FaultProxy,
) -> None:
    """docs/conformance.md, 46: the state has the reason; attempts are not limited."""
    run = await worker_pool.run()
    kube_proxy.on("POST", r"/jobs$").answer(503)
    async with harness.worker() as worker:
        await worker.get_and_submit_flow_runs()
        waiting = await api.wait(run["id"], until=lambda run: bool(run["state"]["message"]))
        assert "Kubernetes API" in waiting["state"]["message"]
        kube_proxy.forget()
        await worker_pool.recorded(run)
    await worker_pool.only_job(kube)


# Secrets


async def test_the_api_key_reaches_the_job_through_a_secret_that_the_worker_keeps(
    kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness
) -> None:
    """docs/conformance.md, 47."""
    key = f"pnu_{uuid.uuid4().hex}"
    await worker_pool.run()
    async with harness.worker(settings={"api.key": key}) as worker:
        await worker.get_and_submit_flow_runs()
        job = await worker_pool.only_job(kube)
    assert key not in json.dumps(job)
    reference = variables_of(job)["PREFECT_API_KEY"]["secretKeyRef"]
    secret = await kube.get("secrets", worker_pool.namespace, reference["name"])
    assert secret is not None
    assert secret["data"][reference["key"]]


async def test_a_secret_of_the_worker_that_was_deleted_is_there_again_for_the_next_run(
    kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "CREDENTIALS_SECONDS", 0.0)
    async with harness.worker(settings={"api.key": "pnu_1"}) as worker:
        for _ in range(2):
            run = await worker_pool.run()
            await worker.get_and_submit_flow_runs()
            await worker_pool.recorded(run)
            [secret] = await kube.list("secrets", worker_pool.namespace)
            await kube.delete("secrets", worker_pool.namespace, secret["metadata"]["name"])


async def test_a_secret_that_the_user_names_is_preferred(
    kube: Kube, worker_pool: SuspendedPool, harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/conformance.md, 47: by the stock worker's own variables."""
    prefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_KEY_SECRET"
    monkeypatch.setenv(f"{prefix}_NAME", "mine")
    monkeypatch.setenv(f"{prefix}_KEY", "token")
    await worker_pool.run()
    async with harness.worker(settings={"api.key": "pnu_1"}) as worker:
        await worker.get_and_submit_flow_runs()
        job = await worker_pool.only_job(kube)
    named = {"name": "mine", "key": "token"}
    assert variables_of(job)["PREFECT_API_KEY"] == {"secretKeyRef": named}
    assert await kube.list("secrets", worker_pool.namespace) == []
