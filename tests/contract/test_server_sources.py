"""The address of a server from a ConfigMap, from Prefect Cloud, and from prefect-operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.forward_proxy import ForwardProxy
from tests.support.gateways import Cloud
from tests.support.private_ca import PrivateCA
from tests.support.promises import AT_ONCE, SOON

KEY = "pnu_a-key-4711"


async def test_a_changed_address_in_a_configmap_is_used_within_15_s(
    binding, operator, kube, namespace, prefect_server: Endpoint, prefect_proxy: FaultProxy
):
    await operator()
    source = {"configMapKeyRef": {"name": "prefect", "key": "url"}}
    served = await binding(server={"urlFrom": source})
    fault = await served.condition(
        "ServerResolved", "False", reason="ConfigMapNotFound", seconds=AT_ONCE
    )
    assert fault["message"].startswith("spec.server.urlFrom.configMapKeyRef: ConfigMap 'prefect'")

    async def write(url: str) -> None:
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prefect"}}
        await kube.apply("configmaps", namespace, manifest | {"data": {"url": url}})

    await write("prefect:4200")
    fault = await served.condition(
        "ServerResolved", "False", reason="ConfigMapValueInvalid", seconds=SOON
    )
    assert "is not an address like http://" in fault["message"]
    await write(prefect_server.url)
    await served.ready(seconds=SOON)
    await write(prefect_proxy.url)
    status = await served.wait(
        lambda status: status["server"].get("url") == prefect_proxy.url, seconds=SOON
    )
    assert status["workPool"]["name"] == (await served.read())["spec"]["workPool"]["name"]
    await served.ready(seconds=SOON)
    assert prefect_proxy.calls("/get_scheduled_flow_runs")


async def test_a_workspace_of_prefect_cloud_is_named_by_its_ids(
    binding, operator, kube, namespace, prefect_server: Endpoint, tmp_path: Path
):
    ca = PrivateCA.make(tmp_path, host="api.prefect.cloud")
    for name, value in (("prefect", KEY), ("ca", ca.pem)):
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        await kube.create("secrets", namespace, manifest | {"stringData": {"value": value}})
    with Cloud(prefect_server, key=KEY, tls=ca.server) as cloud:
        hosts = {"api.prefect.cloud": urlsplit(cloud.url).netloc}
        with ForwardProxy(hosts) as proxy:
            await operator(HTTPS_PROXY=proxy.url)
            ids = {"accountID": cloud.account, "workspaceID": cloud.workspace}
            served = await binding(
                server={
                    "cloud": ids,
                    "apiKey": {"secretKeyRef": {"name": "prefect", "key": "value"}},
                    "caBundle": {"secretKeyRef": {"name": "ca", "key": "value"}},
                },
                jobs={"serverURL": "http://prefect.test/api"},
            )
            await served.ready(seconds=SOON)
            path = f"accounts/{cloud.account}/workspaces/{cloud.workspace}"
            status = (await served.read())["status"]
            assert status["server"]["url"] == f"https://api.prefect.cloud/api/{path}"
            assert "CONNECT api.prefect.cloud:443" in proxy.requests


# prefect-operator


def mapping(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def definition(kind: str, **spec: Any) -> dict[str, Any]:
    """Return a CRD with the fields of prefect-operator's that a binding reads."""
    plural = f"{kind.lower()}s"
    properties = {"spec": mapping(**spec), "status": mapping(ready={"type": "boolean"})}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": mapping(**properties)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.prefect.io"},
        "spec": {
            "group": "prefect.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


TEXT = {"type": "string"}
SERVER = mapping(name=TEXT, namespace=TEXT, remoteApiUrl=TEXT, accountId=TEXT, workspaceId=TEXT)
DEFINITIONS = (
    definition("PrefectServer", version=TEXT),
    definition("PrefectWorkPool", type=TEXT, server=SERVER),
)


def instance(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "prefect.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


class PrefectOperatorKinds:
    """The kinds of prefect-operator, which one test of the whole run installs and removes."""

    def __init__(self, cluster, kube) -> None:
        self._cluster, self._kube = cluster, kube

    async def install(self) -> None:
        for manifest in DEFINITIONS:
            await self._kube.apply("customresourcedefinitions", "", manifest)
        for manifest in DEFINITIONS:
            crd = f"crd/{manifest['metadata']['name']}"
            self._cluster.kubectl.run("wait", "--for=condition=Established", crd, "--timeout=30s")

    async def remove(self) -> None:
        for manifest in DEFINITIONS:
            await self._kube.delete("customresourcedefinitions", "", manifest["metadata"]["name"])


@pytest.fixture
async def prefect_operator(cluster, kube) -> AsyncIterator[PrefectOperatorKinds]:
    kinds = PrefectOperatorKinds(cluster, kube)
    await kinds.remove()
    yield kinds
    await kinds.remove()


async def test_objects_of_prefect_operator_name_server_and_pool(
    binding, operator, kube, namespace, pool, prefect_server: Endpoint, prefect_operator
):
    """Their Services are not resolved here, so the operator reaches them through a proxy."""
    host = f"prefect.{namespace}.svc"
    with ForwardProxy({host: urlsplit(prefect_server.url).netloc}) as proxy:
        await operator(HTTP_PROXY=proxy.url)
        served = await binding(server={"ref": {"name": "prefect"}})
        by_pool = await binding("by-pool", workPool={"ref": {"name": pool}}, server=None)
        for each in (served, by_pool):
            await each.condition(
                "ServerResolved", "False", reason="PrefectOperatorNotInstalled", seconds=AT_ONCE
            )
        await prefect_operator.install()
        for each in (served, by_pool):
            await each.condition(
                "ServerResolved", "False", reason="ReferenceNotFound", seconds=SOON
            )
        server = instance("PrefectServer", "prefect", version="3.8.8")
        await kube.create("prefectservers", namespace, server)
        resolved = await served.condition("ServerResolved", "True", seconds=SOON)
        assert "PrefectServer 'prefect' is not ready" in resolved["message"]
        await served.ready(seconds=SOON)
        work_pool = instance("PrefectWorkPool", pool, type="kubernetes", server={})
        await kube.create("prefectworkpools", namespace, work_pool)
        await by_pool.condition("ServerResolved", "False", reason="ReferenceInvalid", seconds=SOON)
        change = {"spec": {"server": {"name": "prefect"}}}
        await kube.patch("prefectworkpools", namespace, pool, change)
        await by_pool.ready(seconds=SOON)
        status = (await by_pool.read())["status"]
        assert status["workPool"]["name"] == pool
        assert status["server"]["url"] == f"http://{host}:4200/api"
