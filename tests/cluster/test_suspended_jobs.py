"""Jobs that a queue suspends, admits, preempts and admits again.

Instead of a queue the tests set `spec.suspend` in the template and patch it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.deployments import template_with_flows
from tests.support.kube import Kube, Object
from tests.support.object_history import ObjectHistory
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]
QUEUE = {"kueue.x-k8s.io/queue-name": "user-queue"}


@pytest.fixture
async def queued(api: PrefectApi, pool: str) -> None:
    """Every Job of the pool is created suspended."""
    template = template_with_flows()
    template["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})


async def suspend(kube: Kube, job: Object, suspended: bool) -> None:
    where = job["metadata"]
    change = {"spec": {"suspend": suspended}}
    await kube.patch("jobs", where["namespace"], where["name"], change)


def periods(pods: list[Object]) -> list[tuple[str, str]]:
    """When the flow's container of each pod began and ended, in order; all of them have ended."""
    found = []
    for pod in pods:
        for status in pod["status"].get("containerStatuses", []):
            end = status["state"].get("terminated", {})
            if end.get("startedAt"):
                found.append((end["startedAt"], end["finishedAt"]))
    return sorted(found)


async def job_of(kube: Kube, namespace: str, run: Object) -> Object:
    selector = f"workpool-operator.dev/flow-run-id={run['id']}"
    (job,) = await kube.list("jobs", namespace, selector=selector)
    return job


async def test_suspended_jobs_wait_without_a_time_out_or_a_slot_and_report_why(
    queued: None, api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve(concurrencyLimit=1, jobs={"serverURL": api.url, "pendingTimeoutSeconds": 20})
    command = "python /flows/report_only.py"
    queue, hand = await launch(labels=QUEUE, command=command), await launch(command=command)
    for run, fact in ((queue, "queue 'user-queue'"), (hand, "patch job")):
        seen = await api.wait(run["id"], until=lambda run: run["state_name"] == "JobSuspended")
        assert fact in seen["state"]["message"]
    await asyncio.sleep(22)
    for run in (queue, hand):
        await suspend(kube, await job_of(kube, namespace, run), False)
    for run in (queue, hand):
        await api.wait_for_state(run["id"], "COMPLETED")
        assert "Crashed" not in await api.state_names(run["id"])


@pytest.mark.parametrize("resumed_after_seconds", [pytest.param(0, marks=pytest.mark.extended), 8])
async def test_a_preempted_run_continues_in_its_own_job_and_never_runs_twice_at_once(
    resumed_after_seconds: float,
    queued: None,
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    serve: Serve,
    launch: Launch,
) -> None:
    await serve(concurrencyLimit=1)
    async with (
        ObjectHistory(kube, "pods", namespace) as pods,
        ObjectHistory(kube, "jobs", namespace) as jobs,
    ):
        run = await launch("sleep", {"seconds": 10})
        await api.wait(run["id"], until=lambda run: run["state_name"] == "JobSuspended")
        (job,) = jobs.seen
        await suspend(kube, job, False)
        await api.wait_for_state(run["id"], "RUNNING")
        await suspend(kube, job, True)
        await api.wait_for_state(run["id"], "SCHEDULED")
        await asyncio.sleep(resumed_after_seconds)
        await suspend(kube, job, False)
        await api.wait_for_state(run["id"], "COMPLETED")
        await pods.until(lambda seen: len(periods(seen)) == 2)
        (first, second) = periods(pods.seen)
        assert len(jobs.seen) == 1
    assert first[1] <= second[0], (first, second)
    claims = (await api.state_names(run["id"])).count("Pending")
    # A Job that is resumed at once may start its pod before the claim (docs/decisions/0013).
    assert claims == 2 or (claims == 1 and not resumed_after_seconds)
    is_logged = any(
        "starts again when this Job is resumed" in line for line in await api.logs(run["id"])
    )
    assert is_logged or not resumed_after_seconds
