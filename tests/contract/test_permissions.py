"""One review of a namespace's rules answers as a review of each right does, on the real API
server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from testbed.clusters import Cluster
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.polling import poll
from workpool_operator.kube import permissions
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig

RBAC = "rbac.authorization.k8s.io"
WANTED = [
    ("create", "batch", "jobs"),
    ("get", "", "pods/log"),
    ("list", "", "pods"),
    ("delete", "", "secrets"),
]
Restricted = Callable[[Object], Awaitable[KubernetesClient]]


@pytest.fixture
async def restricted(
    kube: Kube, kube_proxy: FaultProxy, namespace: str, cluster: Cluster, tmp_path: Path
) -> AsyncIterator[Restricted]:
    """`await restricted(role_ref)` returns a client with only the rights of that role."""
    clients: list[KubernetesClient] = []

    async def grant(role_ref: Object) -> KubernetesClient:
        await kube.create("serviceaccounts", namespace, {"metadata": {"name": "limited"}})
        subject = {"kind": "ServiceAccount", "name": "limited", "namespace": namespace}
        reference = {"apiGroup": RBAC, **role_ref}
        bound = {"metadata": {"name": "limited"}, "roleRef": reference, "subjects": [subject]}
        await kube.create("rolebindings", namespace, bound)
        token = cluster.kubectl.run("create", "token", "limited", f"--namespace={namespace}")
        file = kube_proxy.write_kubeconfig(tmp_path / "limited", token=token.strip())
        clients.append(await KubernetesClient.from_environment(Kubeconfig(str(file))))
        return clients[-1]

    yield grant
    for client in clients:
        await client.__aexit__()


def rule(verbs: str, group: str, resources: str, **more: list[str]) -> Object:
    return {
        "verbs": verbs.split(),
        "apiGroups": [group],
        "resources": resources.split(),
        **more,
    }


async def one_by_one(client: KubernetesClient, namespace: str) -> list[str]:
    """Return the missing rights, from one review of each."""
    return [
        f"{verb} {resource}"
        for verb, group, resource in WANTED
        if not await client.allowed(namespace, verb=verb, group=group, resource=resource)
    ]


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([], ["create jobs", "get pods/log", "list pods", "delete secrets"]),
        (
            [rule("create", "batch", "jobs"), rule("get list", "", "pods pods/log secrets")],
            ["delete secrets"],
        ),
        ([rule("*", "*", "*")], []),
        ([rule("*", "batch", "*"), rule("*", "", "*/log")], ["list pods", "delete secrets"]),
        ([rule("create", "*", "jobs"), rule("*", "", "pods")], ["get pods/log", "delete secrets"]),
        (
            [rule("list", "", "pods"), rule("delete", "", "secrets", resourceNames=["one"])],
            ["create jobs", "get pods/log", "delete secrets"],
        ),
    ],
    ids=["none", "listed", "all", "subresources", "any group", "named objects"],
)
async def test_the_rules_of_a_role_answer_as_a_review_of_each_right(
    kube: Kube,
    kube_proxy: FaultProxy,
    namespace: str,
    restricted: Restricted,
    rules: list[Object],
    missing: list[str],
) -> None:
    manifest = {"metadata": {"name": "limited"}, "rules": rules}
    await kube.create("roles", namespace, manifest)
    client = await restricted({"kind": "Role", "name": "limited"})
    found = await permissions.missing_permissions(client, namespace, WANTED)
    assert len(kube_proxy.calls("selfsubjectrulesreviews")) == 1
    assert kube_proxy.calls("selfsubjectaccessreviews") == []
    assert found == missing == await one_by_one(client, namespace)


async def test_the_rules_of_an_aggregated_role_count(
    cluster: Cluster, namespace: str, restricted: Restricted
) -> None:
    """Another ClusterRole adds the rules, as cluster administrators extend `edit`."""
    manifest = f"""
apiVersion: {RBAC}/v1
kind: ClusterRole
metadata: {{name: "{namespace}-whole"}}
aggregationRule: {{clusterRoleSelectors: [{{matchLabels: {{of: "{namespace}"}}}}]}}
rules: []
---
apiVersion: {RBAC}/v1
kind: ClusterRole
metadata: {{name: "{namespace}-part", labels: {{of: "{namespace}"}}}}
rules: [{{apiGroups: [batch], resources: [jobs], verbs: [create]}}]
"""
    cluster.kubectl.run("apply", "-f-", stdin=manifest)
    try:
        client = await restricted({"kind": "ClusterRole", "name": f"{namespace}-whole"})

        async def missing() -> list[str]:
            client._rights._entries.clear()
            return await permissions.missing_permissions(client, namespace, WANTED)

        found = await poll(missing, until=lambda it: "create jobs" not in it)
        assert found == ["get pods/log", "list pods", "delete secrets"]
    finally:
        cluster.kubectl.run("delete", "-f-", stdin=manifest)


async def test_what_an_incomplete_answer_lacks_is_reviewed_by_itself(
    kube: Kube, kube_proxy: FaultProxy, namespace: str, restricted: Restricted
) -> None:
    """A webhook, as managed clusters have, cannot list the rights that it grants."""
    rules = [rule("create", "batch", "jobs"), rule("list", "", "pods")]
    await kube.create("roles", namespace, {"metadata": {"name": "limited"}, "rules": rules})
    client = await restricted({"kind": "Role", "name": "limited"})
    listed = {"resourceRules": rules[:1], "incomplete": True, "nonResourceRules": []}
    kube_proxy.on("POST", "selfsubjectrulesreviews").answer(201, json={"status": listed})
    found = await permissions.missing_permissions(client, namespace, WANTED)
    assert found == ["get pods/log", "delete secrets"]
    assert len(kube_proxy.calls("selfsubjectaccessreviews")) == 3
