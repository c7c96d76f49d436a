"""Jobs with running pods, on a real node (docs/races.md, 8 to 12, 15)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.deployments import QUICK, template_with_flows
from tests.support.kube import Kube
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi

Serve = Callable[..., Awaitable[Any]]
Launch = Callable[..., Awaitable[Object]]

OFTEN = {"intervalSeconds": 1}
SOME_POLLS_SECONDS = 4


def ended(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def is_live(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Pending", "Running")


async def test_race_08_15_a_retry_from_the_ui_is_not_judged_by_the_job_of_the_first_attempt(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    """The first Job is Complete and exists until its TTL expires."""
    await serve()
    run = await launch(command=QUICK)
    await api.wait_for_state(run["id"], "COMPLETED")

    async def jobs() -> list[Object]:
        return await kube.list("jobs", namespace)

    (first,) = await poll(
        jobs, until=lambda found: all("ttlSecondsAfterFinished" in job["spec"] for job in found)
    )
    assert ended(first)
    retry: Object = {"name": "AwaitingRetry", "message": "Retry from the UI"}
    assert (await api.set_state(run["id"], "SCHEDULED", **retry))["status"] == "ACCEPT"
    await api.wait_for_state(run["id"], "PENDING", "RUNNING", seconds=30)
    await api.wait_for_state(run["id"], "COMPLETED")
    assert {job["metadata"]["name"] for job in await jobs()} > {first["metadata"]["name"]}
    assert "Crashed" not in await api.state_names(run["id"])


async def test_race_10_a_crashed_run_stays_crashed_when_its_pod_is_terminated(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    """The pod's SIGTERM handler reschedules it, and a poll would run it again."""
    await serve(poll=OFTEN)
    run = await launch("sleep", {"seconds": 300})
    await api.wait_for_state(run["id"], "RUNNING")
    await api.set_state(run["id"], "CRASHED", message="its heart stopped")
    (job,) = await kube.list("jobs", namespace)
    name = job["metadata"]["name"]
    await kube.wait("jobs", namespace, name, until=lambda it: it is None, seconds=120)
    await asyncio.sleep(3)
    end = await api.wait_for_state(run["id"], "CRASHED", seconds=30)
    assert end["state"]["message"] == "its heart stopped"
    assert "AwaitingRetry" in await api.state_names(run["id"]), "the trap did not snap"
    await asyncio.sleep(SOME_POLLS_SECONDS)
    assert await kube.list("jobs", namespace) == []


async def test_race_09_11_a_run_that_reaches_its_deadline_ends_crashed_and_does_not_run_again(
    api: PrefectApi, kube: Kube, namespace: str, pool: str, serve: Serve, launch: Launch
) -> None:
    template = template_with_flows()
    template["job_configuration"]["job_manifest"]["spec"]["activeDeadlineSeconds"] = 20
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    await serve(poll=OFTEN)
    run = await launch("sleep", {"seconds": 300})
    end = await api.wait_for_state(run["id"], "CRASHED")
    message = end["state"]["message"]
    assert "activeDeadlineSeconds of 20 s" in message
    assert "DeadlineExceeded" in message
    (job,) = await kube.list("jobs", namespace)
    assert ended(job)
    await asyncio.sleep(SOME_POLLS_SECONDS)
    assert (await api.read_run(run["id"]))["state_type"] == "CRASHED"
    assert len(await kube.list("jobs", namespace)) == 1


async def test_race_12_the_second_pod_of_a_run_starts_when_the_first_has_ended(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    """The first is asked to stop, reschedules its run at once and takes its time to end."""
    await serve()
    run = await launch("sleep", {"seconds": 20})
    await api.wait_for_state(run["id"], "RUNNING")
    (first,) = await kube.list("pods", namespace)
    await kube.delete("pods", namespace, first["metadata"]["name"])
    seen: set[str] = set()

    async def second_alone() -> bool:
        live = [pod for pod in await kube.list("pods", namespace) if is_live(pod)]
        assert len(live) <= 1, [pod["metadata"]["name"] for pod in live]
        seen.update(pod["metadata"]["name"] for pod in live)
        return len(seen) > 1

    await poll(second_alone, until=bool, seconds=120)
    await api.wait_for_state(run["id"], "COMPLETED")
    assert "AwaitingRetry" in await api.state_names(run["id"])
