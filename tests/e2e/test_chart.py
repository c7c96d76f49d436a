"""The chart, installed with Helm where nothing was before: CRD, operator, rights and bindings."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.enforcer import network_policies_enforced
from tests.e2e.helm import CRD, PREVIOUS_CHART, RELEASE, Helm, write_values
from tests.support.binding import Binding
from tests.support.load import Load
from tests.support.suspended_pool import suspended_template
from workpool_operator.api.crd import VERSION_ANNOTATION
from workpool_operator.kube.models import BINDING_LABEL

pytestmark = pytest.mark.xdist_group("e2e")

OPERATOR = "deployment/test-workpool-operator"
GAP_SECONDS = 5
SETTLED_SECONDS = 20  # in which an operator without rights would try, and report, again
#: Pods that do not meet it are then refused.
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
#: What a release can create; the pods and ReplicaSets of a Deployment are deleted with it.
MADE = (
    "deployments,poddisruptionbudgets,services,jobs,serviceaccounts,roles,rolebindings,"
    "workpoolbindings"
)


@pytest.fixture
def values(tmp_path: Path, operator_image, spec) -> Callable[..., Path]:
    """`values("a", suspended="b", log={...})`: with these bindings, and other values."""

    def write(*names: str, suspended: str = "", **more: Any) -> Path:
        bindings = [{"name": name, "spec": spec} for name in names]
        if suspended:
            bindings.append({"name": suspended, "spec": {**spec, "suspend": True}})
        file = tmp_path / "values.yaml"
        return write_values(file, image=operator_image, bindings=bindings, **more)

    return write


@pytest.fixture
def kubectl(fresh_cluster, namespace) -> Callable[..., str]:
    def kubectl(*arguments: str) -> str:
        return fresh_cluster.kubectl.run(*arguments, f"--namespace={namespace}")

    return kubectl


@pytest.fixture
def policies_enforced(fresh_cluster, tmp_path) -> Iterator[None]:
    """A test requests it before `helm`, so that the policies are deleted while it still runs."""
    with network_policies_enforced(fresh_cluster, tmp_path / "enforcer.log"):
        yield


@pytest.fixture
def networks_behind(fresh_cluster) -> Callable[[str], list[str]]:
    """`networks_behind("prefect/server")`: the addresses of a Service's pods or processes."""

    def networks_behind(service: str) -> list[str]:
        namespace, _, name = service.partition("/")
        of_service = f"--selector=kubernetes.io/service-name={name}"
        addresses = "--output=jsonpath={.items[*].endpoints[*].addresses[*]}"
        where = ("endpointslices", f"--namespace={namespace}", of_service, addresses)
        return [f"{address}/32" for address in fresh_cluster.kubectl.run("get", *where).split()]

    return networks_behind


@pytest.fixture
def reaches_this_machine(fresh_cluster, namespace) -> Iterator[Callable[[], bool]]:
    """`reaches_this_machine()`: whether a pod of the operator can connect to a port of it."""
    with socket.create_server((fresh_cluster.host_address, 0)) as listening:
        address = listening.getsockname()
        connect = f"import socket; socket.create_connection({address!r}, timeout=3)"
        argv = ("exec", OPERATOR, f"--namespace={namespace}", "--", "python3.11", "-c", connect)
        yield lambda: fresh_cluster.kubectl.succeeds(*argv)


@pytest.fixture
def left_of_the_release(kubectl) -> Callable[[], list[str]]:
    def names() -> list[str]:
        query = f"--selector=app.kubernetes.io/instance={RELEASE}"
        found = json.loads(kubectl("get", MADE, query, "--output=json"))["items"]
        return [f"{item['kind']} {item['metadata']['name']}" for item in found]

    return names


async def test_an_upgrade_from_the_previous_chart_loses_no_run_and_deletes_a_binding_taken_out(
    helm, values, bound, deploy, api, kube, namespace, kubectl
):
    deployment = await deploy("sleep")  # SQLite answers 503 to two writers
    helm.install(RELEASE, values("etl", suspended="taken-out"), chart=PREVIOUS_CHART)
    await bound.ready(seconds=90)
    installed = await kube.get("customresourcedefinitions", "", CRD)
    assert "annotations" not in installed["metadata"]
    runs = [
        await api.create_run(deployment["id"], parameters={"seconds": seconds})
        for seconds in (1, 25)
    ]
    await api.wait_for_state(runs[1]["id"], "RUNNING")
    kubectl("label", "namespace", namespace, RESTRICTED)
    await asyncio.to_thread(helm.upgrade, RELEASE, values("etl"))
    await asyncio.to_thread(kubectl, "rollout", "status", OPERATOR, "--timeout=90s")
    kubectl("label", "namespace", namespace, f"{RESTRICTED.partition('=')[0]}-")
    after = await api.create_run(deployment["id"], parameters={"seconds": 1})
    upgraded = await kube.get("customresourcedefinitions", "", CRD)
    assert VERSION_ANNOTATION in upgraded["metadata"]["annotations"]
    await Binding(kube, namespace, "taken-out").gone(seconds=30)
    for run in (*runs, after):
        await api.wait_for_state(run["id"], "COMPLETED")
    assert len(await kube.list("jobs", namespace, selector=BINDING_LABEL)) == 3


@pytest.mark.extended
async def test_an_upgrade_and_an_eviction_under_load_lose_no_run_and_leave_a_short_gap(
    helm, values, bound, kube, namespace, api, pool, kubectl
):
    """A node drain evicts pods. The Jobs are suspended: this is about claims."""
    template = {"base_job_template": suspended_template()}
    await api.request("PATCH", f"/work_pools/{pool}", template)
    deployment = await api.create_deployment(flow="hello", name=pool, pool=pool)
    helm.install(RELEASE, values("etl"))
    await bound.ready(seconds=90)
    rolled_out = ("rollout", "status", OPERATOR, "--timeout=90s")
    await asyncio.to_thread(kubectl, *rolled_out)
    async with Load.on(api, deployment["id"]) as upgraded:
        await asyncio.to_thread(helm.upgrade, RELEASE, values("etl", log={"level": "DEBUG"}))
        await asyncio.to_thread(kubectl, *rolled_out)
    async with Load.on(api, deployment["id"]) as evicted:
        holder = (await bound.read())["status"]["holderIdentity"]
        await kube.evict(namespace, holder.partition("_")[0])
        await asyncio.to_thread(kubectl, *rolled_out)
    gaps = [await upgraded.longest_gap(), await evicted.longest_gap()]
    print(f"longest gap without a claim: upgrade {gaps[0]:.1f} s, eviction {gaps[1]:.1f} s")
    assert max(gaps) < GAP_SECONDS
    runs = len(upgraded.runs) + len(evicted.runs)
    assert len(await kube.list("jobs", namespace)) == runs


async def test_uninstalling_leaves_the_crd_and_the_bindings_of_others(
    helm, values, spec, bound, kube, namespace, api, pool, left_of_the_release, kubectl
):
    kubectl("label", "namespace", namespace, RESTRICTED)
    helm.install(RELEASE, values("etl"))
    await bound.ready(seconds=90)
    checked = helm.test(RELEASE)
    assert f"ok    binding {namespace}/etl is Ready" in checked
    assert "0 failed" in checked
    assert "Warning" not in checked
    others = Binding(kube, namespace, "others")
    await others.apply(**spec)
    await others.ready()
    helm.uninstall(RELEASE)
    assert left_of_the_release() == []
    kept = await others.read()
    assert kept is not None
    assert "deletionTimestamp" not in kept["metadata"]
    (worker,) = await api.workers(pool)
    assert worker["name"].startswith("others.")


@pytest.mark.extended
@pytest.mark.parametrize(
    ("policy", "when_uninstalled", "end"),
    [
        ("Orphan", "RUNNING", "COMPLETED"),
        ("Drain", "COMPLETED", "COMPLETED"),
        ("Cancel", "CANCELLED", "CANCELLED"),
    ],
)
async def test_uninstalling_does_with_runs_in_flight_what_their_binding_says(
    helm, values, spec, bound, deploy, api, left_of_the_release, policy, when_uninstalled, end
):
    spec["deletionPolicy"] = policy
    deployment = await deploy("sleep")
    helm.install(RELEASE, values("etl"))
    await bound.ready(seconds=90)
    run = await api.create_run(deployment["id"], parameters={"seconds": 45})
    await api.wait_for_state(run["id"], "RUNNING")
    await asyncio.to_thread(helm.uninstall, RELEASE)
    assert left_of_the_release() == []
    assert (await api.read_run(run["id"]))["state_type"] == when_uninstalled
    await api.wait_for_state(run["id"], end)


async def test_uninstalling_works_although_no_operator_is_running(
    helm, values, bound, kubectl, left_of_the_release
):
    helm.install(RELEASE, values("etl", uninstall={"patienceSeconds": 1}))
    await bound.ready(seconds=90)
    kubectl("scale", OPERATOR, "--replicas=0")
    kubectl("wait", "--for=delete", "pod", f"--selector=app.kubernetes.io/instance={RELEASE}")
    helm.uninstall(RELEASE)
    assert left_of_the_release() == []


@pytest.mark.extended
async def test_under_the_network_policy_the_operator_works_and_reaches_nothing_else(
    policies_enforced,
    helm,
    values,
    bound,
    deploy,
    run_deployment,
    kubectl,
    networks_behind,
    reaches_this_machine,
):
    deployment = await deploy("hello")
    helm.install(RELEASE, values("etl"))
    await bound.ready(seconds=90)
    assert reaches_this_machine()
    policy = {
        "create": True,
        "prefect": {"cidrs": networks_behind("prefect/prefect-server")},
        "apiServer": {"cidrs": networks_behind("default/kubernetes")},
        "dns": {"cidrs": networks_behind("kube-system/kube-dns")},
    }
    helm.upgrade(RELEASE, values("etl", networkPolicy=policy))
    kubectl("rollout", "restart", OPERATOR)  # connections that exist are not ended by a policy
    kubectl("rollout", "status", OPERATOR, "--timeout=90s")
    assert not reaches_this_machine()
    run_deployment(f"hello/{deployment['name']}")
    assert "0 failed" in helm.test(RELEASE)


@pytest.mark.extended
async def test_a_cluster_wide_release_serves_a_namespace_once_its_values_grant_it(
    helm, values, kube, spec, other_namespace, deploy, run_deployment, kubectl
):
    helm.install(RELEASE, values(clusterWide=True))
    kubectl("rollout", "status", OPERATOR, "--timeout=90s")
    binding = Binding(kube, other_namespace, "etl")
    await binding.apply(**spec)
    forbidden = await binding.condition("Ready", "False", reason="LeaseForbidden", seconds=60)
    assert f'set jobNamespaces to ["{other_namespace}"] in the values' in forbidden["message"]
    helm.upgrade(RELEASE, values(clusterWide=True, jobNamespaces=[other_namespace]))
    await binding.ready(seconds=90)
    deployment = await replace(deploy, namespace=other_namespace)("hello")
    run_deployment(f"hello/{deployment['name']}")
    assert "Traceback" not in kubectl("logs", OPERATOR)
    await binding.delete()
    await binding.gone(seconds=30)


@pytest.mark.extended
async def test_a_release_of_its_own_serves_a_namespace_next_to_a_cluster_wide_one(
    helm, values, kube, spec, other_namespace, fresh_cluster, kubectl
):
    helm.install(RELEASE, values(clusterWide=True))
    kubectl("rollout", "status", OPERATOR, "--timeout=90s")
    binding = Binding(kube, other_namespace, "etl")
    await binding.apply(**spec)
    await binding.condition("Ready", "False", reason="LeaseForbidden", seconds=60)
    await binding.delete()
    await binding.gone(seconds=30)
    second = Helm(fresh_cluster.kubeconfig, other_namespace)
    second.install("second", values("etl"))
    await binding.ready(seconds=90)
    for _ in range(SETTLED_SECONDS):
        found = await binding.read()
        assert found is not None
        status = found["status"]
        assert status["holderIdentity"].startswith("second-"), status
        (ready,) = (each for each in status["conditions"] if each["type"] == "Ready")
        assert ready["status"] == "True", ready
        await asyncio.sleep(1)
    second.uninstall("second")
    await binding.gone(seconds=30)
