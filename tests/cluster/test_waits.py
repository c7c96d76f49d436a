"""While a run waits, its state names the reason, and its message explains it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support import times
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]

MISSING_IMAGE = "localhost/no-such-image:1"
WAITS: dict[str, tuple[Object, str, list[str]]] = {
    "image missing": (
        {"image": MISSING_IMAGE},
        "ImagePullBackOff",
        [MISSING_IMAGE, "'prefect-job'", "pull secret"],
    ),
    "no node that fits": (
        {"cpu_request": "900"},
        "Unschedulable",
        ["Insufficient cpu", "resource requests"],
    ),
    "service account missing": (
        {"service_account_name": "missing"},
        "FailedCreate",
        ['serviceaccount "missing" not found'],
    ),
}


@pytest.mark.parametrize("why", WAITS)
async def test_a_run_whose_pod_cannot_start_reports_why_and_is_timed_out(
    why: str, api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    variables, category, facts = WAITS[why]
    await serve(jobs={"serverURL": api.url, "pendingTimeoutSeconds": 20})
    run = await launch(**variables)
    run = await api.wait(run["id"], until=lambda run: run["state_name"] == category)
    assert run["state_type"] == "PENDING"
    assert times.until_state(run) < 16
    for fact in facts:
        assert fact in run["state"]["message"]
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "pendingTimeoutSeconds (20 s)" in run["state"]["message"]
    for fact in facts:
        assert fact in run["state"]["message"]
    await no_jobs(kube, namespace)


async def no_jobs(kube: Kube, namespace: str) -> None:
    for job in await kube.list("jobs", namespace):
        name = job["metadata"]["name"]
        await kube.wait("jobs", namespace, name, until=lambda job: job is None)


async def test_a_run_whose_image_can_never_be_pulled_ends_crashed_at_once(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve()
    run = await launch(image="Not/An:Image:Name")
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "containers[0].image" in run["state"]["message"]
    assert "Not/An:Image:Name" in run["state"]["message"]
    assert times.until_state(run) < 10
    await no_jobs(kube, namespace)


async def test_a_run_that_exceeds_the_quota_waits_and_then_runs(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    quota: dict[str, Any] = {
        "metadata": {"name": "no-jobs"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    await kube.create("resourcequotas", namespace, quota)
    await kube.wait("resourcequotas", namespace, "no-jobs", until=lambda q: "hard" in q["status"])
    await serve()
    run = await launch(command="python /flows/report_only.py")
    run = await api.wait(run["id"], until=lambda run: run["state_name"] == "QuotaExceeded")
    assert "count/jobs.batch" in run["state"]["message"]
    assert times.until_state(run) < 10
    await kube.delete("resourcequotas", namespace, "no-jobs")
    await api.wait_for_state(run["id"], "COMPLETED")
