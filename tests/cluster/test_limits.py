"""The operator enforces concurrencyLimit, and keeps a deployment's own limit until its runs end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise

from tests.support import times
from tests.support.deployments import Deployer
from tests.support.kube import Kube, Object
from tests.support.object_history import ObjectHistory
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi

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
            await api.wait_for_state(run["id"], "COMPLETED", seconds=90)
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
    await api.wait(waiting["id"], until=lambda run: run["state_name"] == "AwaitingConcurrencySlot")
    await api.wait_for_state(stuck["id"], "CRASHED")
    assert len(await api.states(waiting["id"])) == 2, "a refused claim is repeated in its own time"
    waiting = await api.wait_for_state(waiting["id"], "COMPLETED")
    assert times.until_state(waiting) < 60
