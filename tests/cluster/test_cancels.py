"""A person cancels a run: it ends Cancelled, and its Job does not stay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.support import times
from tests.support.kube import Kube, Object
from tests.support.object_history import ObjectHistory
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]


async def test_a_run_that_is_cancelled_while_its_pod_cannot_start_ends_with_its_job(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve()
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        run = await launch(cpu_request="900")
        await api.wait(run["id"], until=lambda run: run["state_name"] == "Unschedulable")
        asked = (await api.cancel(run["id"]))["state"]
        run = await api.wait_for_state(run["id"], "CANCELLED")
        assert times.seconds(asked["timestamp"], run["state"]["timestamp"]) < 5
        assert "before it started" in run["state"]["message"]
        (job,) = jobs.seen
        name = job["metadata"]["name"]
        await kube.wait("jobs", namespace, name, until=lambda job: job is None, seconds=10)


async def test_a_run_that_is_cancelled_while_it_waits_for_a_quota_ends_without_a_job(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    quota = {"metadata": {"name": "no-jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    await kube.create("resourcequotas", namespace, quota)
    await kube.wait("resourcequotas", namespace, "no-jobs", until=lambda q: "hard" in q["status"])
    await serve()
    run = await launch()
    await api.wait(run["id"], until=lambda run: run["state_name"] == "QuotaExceeded")
    await api.cancel(run["id"])
    run = await api.wait_for_state(run["id"], "CANCELLED", seconds=10)
    assert await kube.list("jobs", namespace) == []


async def test_a_run_that_is_cancelled_while_it_runs_ends_cancelled_by_its_own_process(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve(jobs={"serverURL": api.url, "ttlSecondsAfterFinished": 0})
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        run = await launch("sleep", {"seconds": 120})
        await api.wait_for_state(run["id"], "RUNNING")
        await api.cancel(run["id"])
        run = await api.wait_for_state(run["id"], "CANCELLED")
        assert "operator" not in (run["state"]["message"] or "")
        (job,) = jobs.seen
        name = job["metadata"]["name"]
        await kube.wait("jobs", namespace, name, until=lambda job: job is None, seconds=60)
