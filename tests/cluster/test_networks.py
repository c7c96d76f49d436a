"""Runs whose pods reach their server by a private CA and headers, and as Prefect Cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.clusters import Cluster
from tests.support.endpoint import Endpoint
from tests.support.gateways import AccessProxy, Cloud
from tests.support.private_ca import PrivateCA

KEY = "pnu_a-key-4711"
HEADERS = {"CF-Access-Client-Id": "an-id-4712", "CF-Access-Client-Secret": "a-secret-4713"}


@pytest.fixture
def ca(cluster: Cluster, tmp_path: Path) -> PrivateCA:
    return PrivateCA.make(tmp_path, host=cluster.host_address)


@pytest.fixture
def guard(cluster: Cluster, prefect_server: Endpoint, ca: PrivateCA) -> Iterator[AccessProxy]:
    host = cluster.host_address
    with AccessProxy(prefect_server, headers=HEADERS, host=host, tls=ca.server) as gateway:
        yield gateway


@pytest.fixture
def cloud(cluster: Cluster, prefect_server: Endpoint) -> Iterator[Cloud]:
    with Cloud(prefect_server, key=KEY, host=cluster.host_address) as gateway:
        yield gateway


async def create(kube, namespace: str, plural: str, name: str, **values: str) -> None:
    field = "stringData" if plural == "secrets" else "data"
    kind = "Secret" if plural == "secrets" else "ConfigMap"
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: values}
    await kube.create(plural, namespace, manifest)


def reference(name: str, key: str) -> dict:
    return {"secretKeyRef": {"name": name, "key": key}}


async def test_a_run_reaches_its_server_with_the_bindings_ca_and_headers(
    binding, operator, kube, namespace, api, deploy, guard, ca
):
    """The CA from the user's ConfigMap, the headers from the Secret that the operator keeps."""
    await create(kube, namespace, "configmaps", "ca", **{"ca.crt": ca.pem})
    await create(kube, namespace, "secrets", "access", **HEADERS)
    await operator()
    server = {
        "url": guard.url,
        "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
        "headers": [{"name": name, **reference("access", name)} for name in HEADERS],
    }
    await (await binding(server=server, jobs={})).ready()
    deployment = await deploy("hello")
    run = await api.create_run(deployment["id"])
    await api.wait_for_state(run["id"], "COMPLETED")
    assert guard.refused == []
    (job,) = await kube.list("jobs", namespace)
    assert "4713" not in str(job)
    of_pod = [call for call in guard.calls(f"{run['id']}/set_state$") if b"RUNNING" in call.body]
    assert of_pod, "the pod did not report through the gateway"


async def test_a_run_of_a_prefect_cloud_workspace_completes(
    binding, operator, kube, namespace, api, deploy, cloud
):
    await create(kube, namespace, "secrets", "prefect", key=KEY)
    await operator()
    server = {"url": cloud.url, "apiKey": reference("prefect", "key")}
    await (await binding(server=server, jobs={})).ready()
    deployment = await deploy("hello", env={"PREFECT_CLOUD_API_URL": cloud.api})
    run = await api.create_run(deployment["id"])
    await api.wait_for_state(run["id"], "COMPLETED")
