"""Servers behind proxies and access proxies, with private CAs; Prefect Cloud; wrong addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.forward_proxy import ForwardProxy
from tests.support.gateways import AccessProxy, Cloud
from tests.support.polling import poll
from tests.support.private_ca import PrivateCA
from tests.support.promises import AT_ONCE, SOON

KEY = "pnu_a-key-4711"
HEADERS = {"CF-Access-Client-Id": "an-id-4712", "CF-Access-Client-Secret": "a-secret-4713"}


@pytest.fixture
def forward_proxy() -> Iterator[ForwardProxy]:
    with ForwardProxy() as proxy:
        yield proxy


@pytest.fixture
def cloud(prefect_server: Endpoint) -> Iterator[Cloud]:
    with Cloud(prefect_server, key=KEY) as gateway:
        yield gateway


@pytest.fixture
def ca(tmp_path: Path) -> PrivateCA:
    return PrivateCA.make(tmp_path, host="127.0.0.1")


@pytest.fixture
def guard(prefect_server: Endpoint, ca: PrivateCA) -> Iterator[AccessProxy]:
    """An access proxy that requires HEADERS and has a certificate of a private CA."""
    with AccessProxy(prefect_server, headers=HEADERS, tls=ca.server) as gateway:
        yield gateway


@pytest.fixture
def write(kube, namespace):
    """`await write("secrets", "prefect", key="...")` creates or replaces the object."""

    async def write(plural: str, name: str, **values: str) -> None:
        manifest = {"apiVersion": "v1", "metadata": {"name": name}}
        manifest |= {"kind": "Secret" if plural == "secrets" else "ConfigMap"}
        field = "stringData" if plural == "secrets" else "data"
        await kube.delete(plural, namespace, name)
        await kube.create(plural, namespace, manifest | {field: values})

    return write


def reference(name: str, key: str) -> dict:
    return {"secretKeyRef": {"name": name, "key": key}}


async def listens(gateway: FaultProxy) -> None:
    """Wait until the event stream is open."""

    async def streams() -> list[int | None]:
        return [call.status for call in gateway.calls("/events/out$")]

    await poll(streams, until=lambda found: 101 in found, seconds=SOON)


# Proxies


async def test_requests_and_events_use_the_proxy_unless_no_proxy_covers_the_host(
    binding, operator, cluster, forward_proxy, prefect_server
):
    host = urlsplit(prefect_server.url)
    kubernetes = urlsplit(Endpoint.of_kubeconfig(cluster.kubeconfig).url)
    process = await operator(
        HTTP_PROXY=forward_proxy.url, HTTPS_PROXY=forward_proxy.url, NO_PROXY="10.254.0.0/16"
    )
    await (await binding()).ready()

    async def requests() -> list[str]:
        return forward_proxy.requests

    tunnel = f"CONNECT {host.netloc}"
    await poll(requests, until=lambda lines: tunnel in lines, seconds=SOON)
    assert any(line.startswith(f"POST {prefect_server.url}/") for line in forward_proxy.requests)
    assert [line for line in forward_proxy.requests if kubernetes.netloc in line] == []
    await process.terminate()
    forward_proxy.requests.clear()
    await operator(
        HTTP_PROXY=forward_proxy.url, HTTPS_PROXY=forward_proxy.url, NO_PROXY=f"{host.hostname}/16"
    )
    await (await binding("inside")).ready()
    assert forward_proxy.requests == []


# An access proxy with a private CA


async def test_a_server_behind_an_access_proxy_with_a_private_ca_is_served(
    binding, operator, kube, namespace, guard, ca, write
):
    """Each fault is a condition that names its field, and is corrected without a restart."""
    process = await operator(WORKPOOL_OPERATOR_LOG_LEVEL="DEBUG")
    jobs = {"serverURL": "http://prefect.test/api"}
    served = await binding(server={"url": guard.url}, jobs=jobs)
    fault = await served.condition(
        "ServerReachable", "False", reason="CertificateNotTrusted", seconds=AT_ONCE
    )
    assert "spec.server.caBundle" in fault["message"]
    named = {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}
    await served.patch(server={"caBundle": named})
    await served.condition("ServerResolved", "False", reason="ConfigMapNotFound", seconds=AT_ONCE)
    await write("configmaps", "ca", **{"ca.crt": "no certificate"})
    fault = await served.condition(
        "ServerResolved", "False", reason="ConfigMapValueInvalid", seconds=SOON
    )
    assert "spec.server.caBundle.configMapKeyRef: key 'ca.crt'" in fault["message"]
    await write("configmaps", "ca", **{"ca.crt": ca.pem})
    fault = await served.condition("CredentialsValid", "False", reason="Forbidden", seconds=SOON)
    assert "spec.server.headers" in fault["message"]
    headers = [{"name": name, **reference("access", name)} for name in HEADERS]
    await served.patch(server={"headers": headers})
    await write("secrets", "access", **dict.fromkeys(HEADERS, "wrong-4714\nsecond line"))
    fault = await served.condition(
        "CredentialsValid", "False", reason="SecretValueInvalid", seconds=SOON
    )
    assert "spec.server.headers[0].secretKeyRef: key 'CF-Access-Client-Id'" in fault["message"]
    await write("secrets", "access", **HEADERS)
    await served.ready(seconds=SOON)
    await listens(guard)
    # These headers can be sent, but are wrong.
    await write("secrets", "access", **dict.fromkeys(HEADERS, "wrong-4714"))
    await served.condition("CredentialsValid", "False", reason="Forbidden", seconds=SOON)
    shown = json.dumps([await served.read(), await kube.list("events", namespace)]) + process.log
    for number in ("4712", "4713", "4714"):
        assert number not in shown


# TLS without verification, and with a client certificate


async def test_a_server_that_requires_client_certificates_is_served(
    binding, operator, guard, ca, write, tmp_path
):
    """Each step of its set-up says what is missing, and run pods need another address."""
    await operator()
    ca.require_client_certificates()
    guard.require({})
    served = await binding(server={"url": guard.url}, jobs={})
    await served.condition(
        "ServerReachable", "False", reason="CertificateNotTrusted", seconds=AT_ONCE
    )
    await served.condition("VerificationSkipped", "False", reason="Verified")
    await served.patch(server={"tls": {"insecureSkipVerify": True}})
    fault = await served.condition(
        "ServerReachable", "False", reason="ConnectionFailed", seconds=AT_ONCE
    )
    assert "name its Secret in spec.server.tls.clientCertificate" in fault["message"]
    warning = await served.condition("VerificationSkipped", "True", reason="InsecureSkipVerify")
    assert "Name the CA" in warning["message"]
    await write("configmaps", "ca", **{"ca.crt": ca.pem})
    tls = {"clientCertificate": {"secretRef": {"name": "client"}}, "insecureSkipVerify": None}
    trusted = {"caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}, "tls": tls}
    await served.patch(server=trusted, jobs={"serverURL": "http://prefect.test/api"})
    await served.condition("CredentialsValid", "False", reason="SecretNotFound", seconds=AT_ONCE)
    other = PrivateCA.make(tmp_path, host="other").client
    await write("secrets", "client", **ca.client | {"tls.key": other["tls.key"]})
    fault = await served.condition(
        "CredentialsValid", "False", reason="SecretValueInvalid", seconds=SOON
    )
    assert "clientCertificate.secretRef: key 'tls.key' of Secret 'client'" in fault["message"]
    await write("secrets", "client", **ca.client)
    await served.ready(seconds=SOON)
    await listens(guard)
    await served.condition("VerificationSkipped", "False", reason="Verified")


# Prefect Cloud


async def test_a_workspace_of_prefect_cloud_is_served(
    binding, operator, kube, namespace, api, pool, deploy, cloud, write
):
    await operator()
    served = await binding(
        server={"url": cloud.url, "apiKey": reference("prefect", "key")},
        jobs={"serverURL": "http://prefect.test/api"},
    )
    await served.condition("CredentialsValid", "False", reason="SecretNotFound", seconds=AT_ONCE)
    await write("secrets", "prefect", key="pnu_wrong")
    await served.condition("CredentialsValid", "False", reason="Unauthorized", seconds=SOON)
    await write("secrets", "prefect", key=KEY)
    await served.ready(seconds=SOON)
    assert "version" not in (await served.read())["status"]["server"]
    later = {"Retry-After": "10"}  # no request is sent before then
    cloud.on("*", "/work_pools/").answer(429, json={"detail": "Too many requests"}, headers=later)
    fault = await served.condition("ServerReachable", "False", reason="RateLimited", seconds=SOON)
    assert "10 s" in fault["message"]
    cloud.forget()
    await served.ready(seconds=SOON)


# Addresses that are wrong


async def test_a_redirect_is_reported_with_the_address_to_set(
    binding, operator, prefect_proxy, prefect_server
):
    await operator()
    location = {"Location": f"{prefect_server.url}/work_pools/x"}
    prefect_proxy.on("*", "/work_pools/").answer(308, headers=location)
    served = await binding(server={"url": prefect_proxy.url})
    fault = await served.condition("ServerReachable", "False", reason="Redirected", seconds=AT_ONCE)
    assert "redirects to " in fault["message"]


async def test_an_address_without_api_is_reported_with_the_complete_one(
    binding, operator, prefect_server
):
    await operator()
    whole = prefect_server.url
    served = await binding(server={"url": whole.removesuffix("/api")})
    fault = await served.condition("WorkPoolFound", "False", seconds=AT_ONCE)
    assert f"a Prefect API is at {whole} by default" in fault["message"]
