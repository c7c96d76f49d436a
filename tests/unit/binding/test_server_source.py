"""A binding names its server in one of five ways; each fault names the field and the fix."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.server_source import ServerSource, find_server
from workpool_operator.errors import (
    BindingFault,
    KubernetesForbidden,
    KubernetesNotFound,
    OperatorError,
)

ACCOUNT = "11111111-2222-4333-8444-555555555555"
WORKSPACE = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
ADDRESS = "https://prefect.example/api"


class Cluster:
    """Objects by kind and name, as the Kubernetes API returns them."""

    def __init__(self, *, has_prefect_operator: bool = True, **objects: dict[str, Any]) -> None:
        self._objects = objects
        self._has_prefect_operator = has_prefect_operator
        self.read: list[str] = []

    async def get(self, resource: Any, namespace: str, name: str) -> dict[str, Any]:
        self.read.append(f"{resource.plural} {namespace}/{name}")
        if name == "forbidden":
            raise KubernetesForbidden("get is forbidden")
        if name not in self._objects:
            raise KubernetesNotFound("no such object")
        return self._objects[name]

    async def request(self, method: str, path: str, **_: Any) -> bytes:
        if path == "/apis/prefect.io/v1" and not self._has_prefect_operator:
            raise KubernetesNotFound("404 page not found")
        return b'{"status": {"userInfo": {"username": "system:serviceaccount:ops:operator"}}}'


async def find(cluster: Cluster | None = None, *, pool: Any = None, **server: Any) -> ServerSource:
    spec = Spec.model_validate({"workPool": pool or {"name": "etl"}, "server": server})
    return await find_server(spec, namespace="data", kube=cluster)  # type: ignore[arg-type]


async def fault(cluster: Cluster | None = None, **given: Any) -> BindingFault:
    with pytest.raises(BindingFault) as raised:
        await find(cluster, **given)
    assert raised.value.condition == "ServerResolved"
    return raised.value


def work_pool(**server: Any) -> dict[str, Any]:
    return {"spec": {"type": "kubernetes", "server": server}, "status": {"ready": True}}


def key(name: str, **value: str) -> dict[str, Any]:
    [field] = value
    return {f"{field}KeyRef": {"name": name, "key": value[field]}}


async def test_an_address_is_used_without_a_slash_at_its_end():
    assert await find(url=f"{ADDRESS}/") == ServerSource(ADDRESS, "spec.server.url")


async def test_a_workspace_of_prefect_cloud_has_the_address_of_its_api():
    found = await find(cloud={"accountID": ACCOUNT, "workspaceID": WORKSPACE})
    path = f"accounts/{ACCOUNT}/workspaces/{WORKSPACE}"
    assert found == ServerSource(f"https://api.prefect.cloud/api/{path}", "spec.server.cloud")


async def test_an_address_is_read_from_a_configmap_or_secret_of_the_bindings_namespace():
    encoded = base64.b64encode(ADDRESS.encode()).decode()
    cluster = Cluster(shared={"data": {"url": f"{ADDRESS}\n"}}, hidden={"data": {"url": encoded}})
    found = await find(cluster, urlFrom=key("shared", configMap="url"))
    assert found == ServerSource(ADDRESS, "spec.server.urlFrom.configMapKeyRef")
    found = await find(cluster, urlFrom=key("hidden", secret="url"))
    assert found == ServerSource(ADDRESS, "spec.server.urlFrom.secretKeyRef")
    assert cluster.read == ["configmaps data/shared", "secrets data/hidden"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("prefect:4200/api", "is not an address like http://prefect-server.prefect.svc:4200/api"),
        ("ftp://prefect/api", "is not an address like"),
        ("http://me:a-secret@prefect/api", "contains a user and password, which every Job would"),
    ],
)
async def test_a_value_that_is_not_an_address_is_never_quoted(value, why):
    cluster = Cluster(shared={"data": {"url": value}})
    found = await fault(cluster, urlFrom=key("shared", configMap="url"))
    assert found.reason == "ConfigMapValueInvalid"
    text = f"spec.server.urlFrom.configMapKeyRef: key 'url' of ConfigMap 'shared' {why}"
    assert str(found).startswith(text)
    assert value not in str(found)


async def test_a_prefect_server_is_called_at_its_service():
    cluster = Cluster(prefect={"status": {"ready": True}})
    found = await find(cluster, ref={"name": "prefect"})
    assert found == ServerSource("http://prefect.data.svc:4200/api", "spec.server.ref")
    found = await find(cluster, ref={"name": "prefect", "namespace": "shared"})
    assert found.url == "http://prefect.shared.svc:4200/api"
    assert cluster.read == ["prefectservers data/prefect", "prefectservers shared/prefect"]


async def test_an_object_that_is_not_ready_is_remarked_and_used():
    found = await find(Cluster(prefect={"spec": {}}), ref={"name": "prefect"})
    assert found.remark == " PrefectServer 'prefect' is not ready, says prefect-operator."


CLOUD = {"remoteApiUrl": "https://api.prefect.cloud", "accountId": "a", "workspaceId": "w"}


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ({"name": "prefect"}, "http://prefect.data.svc:4200/api"),
        ({"name": "prefect", "namespace": "shared"}, "http://prefect.shared.svc:4200/api"),
        ({"remoteApiUrl": "https://prefect.example"}, ADDRESS),
        ({"remoteApiUrl": f"{ADDRESS}/", "name": "ignored"}, ADDRESS),
        ({"remoteApiUrl": ADDRESS, "accountId": "a"}, ADDRESS),
        (CLOUD, "https://api.prefect.cloud/api/accounts/a/workspaces/w"),
    ],
)
async def test_a_prefect_work_pool_names_its_server_as_prefect_operator_reads_it(server, url):
    cluster = Cluster(etl=work_pool(**server))
    found = await find(cluster, pool={"ref": {"name": "etl"}})
    assert found == ServerSource(url, "spec.workPool.ref")
    assert cluster.read == ["prefectworkpools data/etl"]


@pytest.mark.parametrize("server", [{}, {"remoteApiUrl": "prefect"}, {"accountId": "a"}])
async def test_a_prefect_work_pool_without_a_server_is_a_fault(server):
    found = await fault(Cluster(etl=work_pool(**server)), pool={"ref": {"name": "etl"}})
    assert found.reason == "ReferenceInvalid"
    assert "set its spec.server.name or spec.server.remoteApiUrl" in str(found)


async def test_a_cluster_without_prefect_operator_is_told_apart_from_a_missing_object():
    found = await fault(Cluster(has_prefect_operator=False), ref={"name": "prefect"})
    assert found.reason == "PrefectOperatorNotInstalled"
    assert str(found).startswith("spec.server.ref is a PrefectServer (prefect.io/v1), which this")
    found = await fault(Cluster(), pool={"ref": {"name": "etl"}})
    assert found.reason == "ReferenceNotFound"
    text = "spec.workPool.ref: PrefectWorkPool 'etl' does not exist in namespace 'data': create it."
    assert str(found) == text


async def test_a_missing_right_is_reported_with_the_command_that_grants_it():
    found = await fault(Cluster(), ref={"name": "forbidden", "namespace": "shared"})
    assert found.reason == "ReferenceForbidden"
    assert "kubectl -n shared create rolebinding workpool-operator-jobs" in str(found)


async def test_none_and_several_servers_are_faults_that_name_the_fields():
    found = await fault()
    assert (found.reason, "set url, urlFrom, cloud or ref" in str(found)) == ("NoServer", True)
    found = await fault(url=ADDRESS, pool={"ref": {"name": "etl"}})
    assert found.reason == "SeveralServers"
    text = "spec.server.url and spec.workPool.ref name the server: keep one of them."
    assert str(found) == text


async def test_a_command_without_a_cluster_finds_what_needs_none():
    assert (await find(url=ADDRESS)).url == ADDRESS
    with pytest.raises(OperatorError, match=r"spec\.server\.ref cannot be read without a cluster"):
        await find(ref={"name": "prefect"})
