"""`workpool-operator crd --upgrade`, with the rights that the chart's hook has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from testbed.clusters import Cluster
from tests.support import chart
from tests.support.command import Command
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from workpool_operator.api import crd as own

CRDS = "customresourcedefinitions"
NEWER = own.manifest() | {"metadata": {"annotations": {own.VERSION_ANNOTATION: "99.0.0"}}}


@pytest.fixture
async def hook(
    kube: Kube, kube_proxy: FaultProxy, namespace: str, cluster: Cluster, tmp_path: Path
) -> AsyncIterator[Command]:
    """The command with the account of the chart's hook, behind the proxy."""
    (rules,) = (
        found["rules"]
        for found in chart.objects({})
        if found["kind"] == "ClusterRole" and found["metadata"]["name"].endswith("-crd")
    )
    await kube.create("serviceaccounts", namespace, {"metadata": {"name": "crd"}})
    role = yaml.safe_dump_all(
        [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": namespace},
                "rules": rules,
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": namespace},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": namespace,
                },
                "subjects": [{"kind": "ServiceAccount", "name": "crd", "namespace": namespace}],
            },
        ]
    )
    cluster.kubectl.run("apply", "-f-", stdin=role)
    token = cluster.kubectl.run("create", "token", "crd", f"--namespace={namespace}").strip()
    file = kube_proxy.write_kubeconfig(tmp_path / "kubeconfig", token=token)
    yield Command(tmp_path, {"KUBECONFIG": str(file)})
    cluster.kubectl.run("delete", "-f-", stdin=role)


async def test_the_hook_upgrades_the_crd_with_the_right_to_this_one_only(
    crd: str, hook: Command, kube: Kube
):
    done = await hook("crd", "--upgrade")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"CRD {crd}: version ")
    found = await kube.get(CRDS, "", crd)
    assert found is not None
    managers = {each["manager"] for each in found["metadata"]["managedFields"]}
    assert "workpool-operator" in managers
    assert found["spec"]["versions"] == own.manifest()["spec"]["versions"]


async def test_a_newer_crd_is_left_as_it_is(crd: str, hook: Command, kube_proxy: FaultProxy):
    kube_proxy.on("GET", crd).answer(200, json=NEWER)
    done = await hook("crd", "--upgrade")
    assert done.code == 0
    assert "is of version 99.0.0, newer than" in done.err
    assert kube_proxy.calls(crd, method="PATCH") == []


async def test_a_cluster_without_the_crd_gets_none(hook: Command, kube_proxy: FaultProxy):
    kube_proxy.on("GET", CRDS).answer(404, json={"kind": "Status", "message": "not found"})
    done = await hook("crd", "--upgrade")
    assert done.code == 0
    assert "nothing to upgrade. Install it: workpool-operator crd | kubectl apply" in done.err
    assert kube_proxy.calls(CRDS, method="PATCH") == []


async def test_a_refused_upgrade_fails_with_the_reason(crd: str, hook: Command, kube_proxy):
    refusal = {"kind": "Status", "message": f"{CRDS} {crd!r} is invalid"}
    kube_proxy.on("PATCH", crd).answer(422, json=refusal)
    assert "the API server refuses the CRD" in (await hook("crd", "--upgrade")).error


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_an_upgrade_without_the_right_to_it_names_both_ways_out(
    crd: str, hook: Command, kube_proxy, method
):
    refusal = {"kind": "Status", "message": f"{CRDS} {crd!r} is forbidden"}
    kube_proxy.on(method, crd).answer(403, json=refusal)
    error = (await hook("crd", "--upgrade")).error
    assert "is forbidden. Grant get and patch of this CRD, or set the chart's crds.upgrade" in error
    assert "workpool-operator crd | kubectl apply --server-side --force-conflicts -f -" in error
