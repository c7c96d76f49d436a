"""The operator enforces concurrencyLimit and maxPendingPods, waits for a quota, and keeps a
deployment's own limit until its runs end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise

from tests.support import times
from tests.support.binding import Binding
from tests.support.deployments import Deployer
from tests.support.kube import Kube, Object
from tests.support.object_history import ObjectHistory
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.promises import FILLED_SECONDS

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]


async def test_runs_never_overlap_under_a_limit_of_one_even_after_a_kill(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    serve: Serve,
    launch: Launch,
    operator: Callable[..., Awaitable[Operator]],
) -> None:
    first = await serve(concurrencyLimit=1)
    async with ObjectHistory(kube, "pods", namespace) as pods:
        runs = [await launch(command="python /flows/report_only.py 6") for _ in range(3)]
        await pods.until(bool)
        first.kill()
        await operator()
        for run in runs:
            await api.wait_for_state(run["id"], "COMPLETED")
        ended = await pods.until(lambda seen: all(map(life_of, seen)))
    lives = sorted(map(life_of, ended))
    assert len(lives) == 3
    for (_, end), (start, _) in pairwise(lives):
        assert end <= start


def life_of(pod: Object) -> list[str]:
    """Return when the pod was created and when its process ended; empty before that."""
    (container,) = pod["status"].get("containerStatuses") or [{"state": {}}]
    end = container["state"].get("terminated")
    return [pod["metadata"]["creationTimestamp"], end["finishedAt"]] if end else []


async def test_the_slot_of_a_deployment_is_free_again_once_its_run_has_crashed(
    api: PrefectApi, serve: Serve, deploy: Deployer
) -> None:
    """The sub-state of a run that waits must not lose the slot's lease."""
    await serve(jobs={"serverURL": api.url, "pendingTimeoutSeconds": 10})
    deployment = await deploy("hello", fields={"concurrency_limit": 1})
    stuck = await api.create_run(deployment["id"], job_variables={"cpu_request": "900"})
    await api.wait(stuck["id"], until=lambda run: run["state_name"] == "Unschedulable")
    quick = {"command": "python /flows/report_only.py"}
    waiting = await api.create_run(deployment["id"], job_variables=quick)
    await poll(
        lambda: api.logs(waiting["id"]),
        until=lambda lines: any("1 of 1 slots are taken" in line for line in lines),
    )
    await api.wait_for_state(stuck["id"], "CRASHED")
    waiting = await api.wait_for_state(waiting["id"], "COMPLETED")
    assert times.until_state(waiting) < 60


async def test_no_more_pods_wait_to_start_than_max_pending_pods(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    serve: Serve,
    deploy: Deployer,
) -> None:
    await serve(jobs={"serverURL": api.url, "maxPendingPods": 2})
    deployment = await deploy("hello")
    too_large = {"cpu_request": "900"}
    stuck = [await api.create_run(deployment["id"], job_variables=too_large) for _ in range(4)]
    await poll(lambda: by_type(api, stuck), until=lambda it: it["PENDING"] == 2)
    full = await Binding(kube, namespace, "pool").condition("Claiming", "False")
    assert full["reason"] == "AtCapacity"
    assert "2 runs wait" in full["message"]
    assert "spec.jobs.maxPendingPods is 2" in full["message"]
    async with ObjectHistory(kube, "pods", namespace) as pods:
        await pods.until(lambda seen: len(seen) == 2)
        await asyncio.sleep(3)
        assert len(pods.seen) == 2
        assert await by_type(api, stuck) == {"PENDING": 2, "SCHEDULED": 2}
        found = [await api.read_run(run["id"]) for run in stuck]
        waiting = next(run for run in found if run["state_type"] == "PENDING")
        await api.cancel(waiting["id"])
        await api.wait_for_state(waiting["id"], "CANCELLED")
        cancelled = time.monotonic()
        await pods.until(lambda seen: len(seen) == 3)
        assert time.monotonic() - cancelled < FILLED_SECONDS


async def test_a_pod_that_starts_makes_room_for_the_next_run(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, deploy: Deployer
) -> None:
    await serve(jobs={"serverURL": api.url, "maxPendingPods": 1})
    deployment = await deploy("hello")
    slow = {"command": "python /flows/report_only.py 30"}
    runs = [await api.create_run(deployment["id"], job_variables=slow) for _ in range(3)]
    await poll(lambda: by_type(api, runs), until=lambda it: it["COMPLETED"] == 3, seconds=180)
    ended = await poll(
        lambda: kube.list("pods", namespace), until=lambda pods: all(map(life_of, pods))
    )
    starts = sorted(life_of(pod)[0] for pod in ended)
    assert starts[2] < min(life_of(pod)[1] for pod in ended), "the first one was still running"


async def test_while_a_quota_refuses_pods_no_further_runs_are_claimed(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, deploy: Deployer
) -> None:
    await set_pod_quota(kube, namespace, 1)
    await serve()
    deployment = await deploy("hello")
    long = {"command": "python /flows/report_only.py 600"}
    first = await api.create_run(deployment["id"], job_variables=long)
    await api.wait(first["id"], until=lambda run: run["infrastructure_pid"])
    second = await api.create_run(deployment["id"], job_variables=long)
    await api.wait(second["id"], until=lambda run: run["state_name"] == "FailedCreate")
    full = await Binding(kube, namespace, "pool").condition("Claiming", "False")
    assert full["reason"] == "QuotaExceeded"
    assert "few is exhausted (requested: pods=1, used: pods=1, limited: pods=1)" in full["message"]
    third = await api.create_run(deployment["id"], job_variables=long)
    await asyncio.sleep(8)  # the Job controller tries again after 1, 2, 4, 8, ... 60 s
    assert (await api.read_run(third["id"]))["state_type"] == "SCHEDULED"
    async with ObjectHistory(kube, "pods", namespace) as pods:
        began = time.monotonic()
        await set_pod_quota(kube, namespace, 3)
        await pods.until(lambda seen: len(seen) == 3)
        assert time.monotonic() - began < 2 * FILLED_SECONDS, "the waiting run, then the next"


async def set_pod_quota(kube: Kube, namespace: str, count: int) -> None:
    hard = {"pods": str(count)}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": namespace},
        "spec": {"hard": hard},
    }
    await kube.apply("resourcequotas", namespace, quota)
    await kube.wait(
        "resourcequotas", namespace, "few", until=lambda q: q.get("status", {}).get("hard") == hard
    )


async def by_type(api: PrefectApi, runs: list[Object]) -> Counter[str]:
    chosen = {"flow_runs": {"id": {"any_": [run["id"] for run in runs]}}}
    found = await api.many("POST", "/flow_runs/filter", chosen)
    return Counter(run["state_type"] for run in found)
