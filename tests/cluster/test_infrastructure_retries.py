"""A run whose pod is rejected or evicted before the flow starts gets a new Job; the runs of a dead
node end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.support import times
from tests.support.deployments import Deployer, template_with_flows
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
RETRY = "InfrastructureRetry"
COMMAND = "python /flows/report_only.py"
TOO_MUCH: dict[str, Any] = {"cpu_request": "900", "command": COMMAND}
CANCEL_NEW = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}
OFTEN = {"intervalSeconds": 5}
FAILED = {"status": {"phase": "Failed"}}
UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}


async def template_for(api: PrefectApi, pool: str, **pod: Any) -> None:
    """Give the pool's pods these fields, too."""
    template = template_with_flows()
    spec = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    spec.update(pod)
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})


async def bound_by_hand(api: PrefectApi, kube: Kube, pool: str) -> None:
    """Bypass the scheduler, so that the kubelet has to reject the pod."""
    (node,) = [n["metadata"]["name"] for n in await kube.list("nodes", "") if not is_ghost(n)]
    await template_for(api, pool, nodeName=node)


def is_ghost(node: Object) -> bool:
    return str(node["metadata"]["name"]).startswith("ghost-")


async def test_a_run_whose_pod_the_kubelet_rejects_gets_new_jobs_up_to_its_retry_limit(
    api: PrefectApi, kube: Kube, namespace: str, pool: str, serve: Serve, deploy: Deployer
) -> None:
    await bound_by_hand(api, kube, pool)
    await serve(jobs={"serverURL": api.url, "infrastructureRetries": 1}, poll=OFTEN)
    deployment = await deploy("hello", **TOO_MUCH)
    retried, lost = [await api.create_run(deployment["id"]) for _ in range(2)]
    for run in (retried, lost):
        seen = await api.wait(run["id"], until=lambda run: run["state_name"] == RETRY)
        assert "Infrastructure retry 1 of 1" in seen["state"]["message"]
        assert "OutOfcpu" in seen["state"]["message"]
    await api.update_run(retried["id"], job_variables={"cpu_request": "10m"})
    await api.wait_for_state(retried["id"], "COMPLETED")
    assert any("Infrastructure retry 1 of 1" in line for line in await api.logs(retried["id"]))
    end = await api.wait_for_state(lost["id"], "CRASHED")
    assert "OutOfcpu" in end["state"]["message"]
    assert "jobs.infrastructureRetries: 1" in end["state"]["message"]
    first, second = [s["timestamp"] for s in await api.states(lost["id"]) if s["name"] == "Pending"]
    assert times.seconds(first, second) >= 10


async def test_an_eviction_before_the_flow_starts_is_retried_and_its_slot_can_go_to_a_new_run(
    api: PrefectApi, kube: Kube, namespace: str, pool: str, serve: Serve, deploy: Deployer
) -> None:
    """The deployment's CANCEL_NEW: the run gives its slot back while it waits for its new Job."""
    await serve(poll=OFTEN)
    deployment = await deploy("hello", fields=CANCEL_NEW, command=COMMAND, image="localhost/none:1")
    evicted = await api.create_run(deployment["id"])
    await api.wait(evicted["id"], until=lambda run: run["state_name"] == "ImagePullBackOff")
    (pod,) = await kube.list("pods", namespace)
    await kube.evict(namespace, pod["metadata"]["name"])
    seen = await api.wait(evicted["id"], until=lambda run: run["state_name"] == RETRY)
    assert "EvictionByEvictionAPI" in seen["state"]["message"]
    taker = await api.create_run(deployment["id"])
    await api.wait(taker["id"], until=lambda run: run["state_name"] == "ImagePullBackOff")
    end = await api.wait_for_state(evicted["id"], "CANCELLED")
    assert end["state"]["message"] == "Deployment concurrency limit reached."


@pytest.fixture
async def ghost(kube: Kube, namespace: str) -> AsyncIterator[str]:
    """Create a node without a kubelet: its pods behave as on a node that died."""
    name = f"ghost-{namespace}"
    taints = [{"key": "tests", "effect": "NoSchedule"}, UNREACHABLE]
    await kube.create("nodes", "", {"metadata": {"name": name}, "spec": {"taints": taints}})
    # The node controller sees it within 5 s, and then removes the second taint once.
    await kube.wait("nodes", "", name, until=is_reachable)
    yield name
    for pod in await kube.list("pods", namespace):
        where = pod["metadata"]["name"]
        await kube.patch("pods", namespace, where, FAILED, subresource="status")
        await kube.delete("pods", namespace, where, gracePeriodSeconds="0")
    await kube.delete("nodes", "", name)


def is_reachable(node: Object) -> bool:
    return UNREACHABLE["key"] not in {taint["key"] for taint in node["spec"]["taints"]}


async def test_the_runs_of_a_dead_node_end_although_their_pods_remain(
    ghost: str,
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    pool: str,
    serve: Serve,
    deploy: Deployer,
) -> None:
    tolerations = [{**UNREACHABLE, "operator": "Exists", "tolerationSeconds": 5}]
    await template_for(api, pool, nodeName=ghost, tolerations=tolerations)
    await serve()
    deployment = await deploy("hello")
    running, waiting = [await api.create_run(deployment["id"]) for _ in range(2)]

    async def pods() -> list[Object]:
        return await kube.list("pods", namespace)

    bound = await poll(pods, until=lambda found: len(found) == 2)
    await api.wait_for_state(running["id"], "PENDING")
    await start(kube, next(pod for pod in bound if is_of(pod, running)))
    await api.set_state(running["id"], "RUNNING")
    await kube.patch("nodes", "", ghost, {"spec": {"taints": [UNREACHABLE]}})
    for run in (running, waiting):
        end = await api.wait_for_state(run["id"], "CRASHED", seconds=5 + 5 + 30)
        assert f"Node {ghost} is lost" in end["state"]["message"]
    assert all("deletionTimestamp" in pod["metadata"] for pod in await pods())


def is_of(pod: Object, run: Object) -> bool:
    return bool(pod["metadata"]["labels"]["workpool-operator.dev/flow-run-id"] == run["id"])


async def start(kube: Kube, pod: Object) -> None:
    """Report the pod's container as running, as its kubelet would."""
    running = {
        "name": "prefect-job",
        "image": "none",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}},
    }
    change = {"status": {"phase": "Running", "containerStatuses": [running]}}
    where = pod["metadata"]
    await kube.patch("pods", where["namespace"], where["name"], change, subresource="status")
