"""The fault that a failed request or a Secret shows: its likely cause and fix, without values."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.private_ca import PrivateCA
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import preflight_checks
from workpool_operator.binding.key_reference import KeyReference
from workpool_operator.binding.server_source import ServerSource
from workpool_operator.errors import (
    BindingFault,
    KubernetesNotFound,
    OperatorError,
    PrefectDisconnected,
    PrefectForbidden,
    PrefectRedirects,
    PrefectRefused,
    PrefectUnauthorized,
    PrefectUnavailable,
    PrefectUntrusted,
)
from workpool_operator.prefect_api.endpoint import ClientCertificate, PrefectEndpoint, TLSTrust

INSIDE = "http://prefect-server.prefect.svc:4200/api"
SECRET = "a-secret-4711"


class Cluster:
    """Objects by name, as the Kubernetes API returns them."""

    def __init__(self, **objects: dict[str, Any]) -> None:
        self._objects = objects

    async def get(self, resource: Any, namespace: str, name: str) -> dict[str, Any]:
        if name not in self._objects:
            raise KubernetesNotFound("no such object")
        return self._objects[name]


def encoded(**values: str) -> dict[str, Any]:
    return {
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    }


def spec(**server: Any) -> Spec:
    return Spec.model_validate({"workPool": {"name": "etl"}, "server": {"url": INSIDE, **server}})


def reference(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


class Api:
    """A client whose requests all raise one error."""

    pool = "etl"

    def __init__(self, error: OperatorError, server: PrefectEndpoint) -> None:
        self.server = server
        self._error = error

    async def work_pool(self) -> Any:
        raise self._error


async def fault(error: OperatorError, url: str = INSIDE, **server: Any) -> BindingFault:
    with pytest.raises(BindingFault) as raised:
        await preflight_checks.read_pool(Api(error, PrefectEndpoint(url, **server)))  # type: ignore[arg-type]
    assert SECRET not in str(raised.value)
    return raised.value


DOWN = PrefectUnavailable("GET /api/work_pools/etl: connection refused")
NOT_PREFECT = PrefectRefused("GET /work_pools/etl: this is not the answer", status=200)


@pytest.mark.parametrize(
    ("url", "error", "cause"),
    [
        ("http://prefect:4200", NOT_PREFECT, "a Prefect API is at http://prefect:4200/api"),
        (
            "http://localhost:4200/api",
            DOWN,
            "spec.server.url points to localhost, which is the pod",
        ),
        ("https://app.prefect.cloud/account/a/workspace/b", NOT_PREFECT, "Prefect Cloud's UI"),
        ("https://api.prefect.cloud/api/x", NOT_PREFECT, "needs an API key"),
        (INSIDE, DOWN, "Check that the server is running"),
    ],
)
async def test_a_failed_connection_is_reported_with_its_likely_cause(url, error, cause):
    found = await fault(error, url)
    assert (found.condition, found.reason) == ("ServerReachable", "ConnectionFailed")
    assert cause in str(found)


async def test_a_failed_connection_names_the_field_of_the_address_once():
    assert str(await fault(DOWN)).count("spec.server.url") == 1
    assert str(await fault(DOWN, "http://localhost:4200")).count("points to localhost") == 1
    assert "as seen from the operator" not in str(await fault(DOWN, "http://localhost:4200"))


async def test_prefect_cloud_without_a_key_is_reported_to_need_one():
    url = "https://api.prefect.cloud/api/accounts/a/workspaces/b"
    refused = PrefectUnauthorized("HTTP 401", status=401)
    found = await fault(refused, url)
    assert (found.condition, found.reason) == ("CredentialsValid", "Unauthorized")
    assert "Prefect Cloud needs an API key: name its Secret in spec.server.apiKey" in str(found)
    assert "needs an API key" not in str(await fault(refused, url, api_key=SECRET))


async def test_a_redirect_to_https_is_reported_with_the_address_to_set():
    error = PrefectRedirects("x", status=308, to="https://prefect/api", is_api=True)
    found = await fault(error, "http://prefect/api")
    assert (found.condition, found.reason) == ("ServerReachable", "Redirected")
    assert "Set spec.server.url to https://prefect/api." in str(found)


async def test_a_redirect_to_a_login_page_is_reported_with_the_field_for_headers():
    error = PrefectRedirects("x", status=302, to="https://login.example.com", is_api=False)
    text = str(await fault(error, "https://prefect/api"))
    assert "redirects to https://login.example.com" in text
    assert "spec.server.headers" in text


async def test_an_untrusted_certificate_is_reported_with_the_field_for_its_ca():
    found = await fault(PrefectUntrusted("GET /api: the certificate is not trusted: self-signed"))
    assert found.reason == "CertificateNotTrusted"
    assert "not trusted: self-signed" in str(found)
    assert "spec.server.caBundle" in str(found)


async def test_an_expired_certificate_is_to_be_renewed_not_to_be_trusted():
    text = "GET /api: the certificate is not trusted: certificate has expired"
    found = await fault(PrefectUntrusted(text))
    assert "Renew it: the certificate of the server, of a proxy in front of it" in str(found)
    assert "caBundle" not in str(found)


async def test_a_gateway_that_refuses_is_reported_with_the_field_for_its_headers():
    found = await fault(PrefectForbidden("HTTP 403", status=403))
    assert (found.condition, found.reason) == ("CredentialsValid", "Forbidden")
    assert "spec.server.headers" in str(found)


async def test_an_unreachable_server_is_reported_with_its_proxy_without_the_password(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{SECRET}@proxy:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    text = str(await fault(DOWN))
    assert "through the proxy http://proxy:3128, which its environment variable HTTP_PROXY" in text
    assert "add the server's host to NO_PROXY" in text


async def test_an_address_with_a_password_is_shown_without_it():
    await fault(DOWN, f"http://me:{SECRET}@prefect/api")


async def test_a_proxy_that_cannot_be_used_is_a_condition(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"socks5://me:{SECRET}@proxy:1080")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(BindingFault, match="HTTP_PROXY: not a valid proxy") as raised:
        await preflight_checks.find_server(spec(), namespace="data", kube=None)
    assert (raised.value.condition, raised.value.reason) == ("ServerResolved", "ProxyInvalid")
    assert SECRET not in str(raised.value)


# Secrets and ConfigMaps that a binding names


async def read(server: Spec, kube: Cluster) -> PrefectEndpoint:
    return await preflight_checks.read_credentials(
        server,
        ServerSource(INSIDE, "spec.server.url"),
        namespace="data",
        kube=kube,  # type: ignore[arg-type]
        trust=TLSTrust(),
    )


async def test_whitespace_around_a_value_is_removed():
    kube = Cluster(prefect=encoded(key=" pnu_1\n", id="abc\n"))
    headers = [{"name": "CF-Access-Client-Id", **reference("prefect", "id")}]
    found = await read(spec(apiKey=reference("prefect", "key"), headers=headers), kube)
    assert (found.api_key, found.headers) == ("pnu_1", (("CF-Access-Client-Id", "abc"),))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (f"{SECRET}\nsecond line", "more than one line"),
        (f"{SECRET}\r\nX-Other: 1", "more than one line"),
        (f"{SECRET}é", "not printable ASCII"),
        (f"{SECRET}\x00", "not printable ASCII"),
        ("  \n", "is empty"),
    ],
)
@pytest.mark.parametrize("field", ["apiKey", "authString", "headers[0]"])
async def test_a_value_that_cannot_be_sent_is_reported_by_its_field_and_never_quoted(
    field, value, why
):
    named = reference("prefect", "key")
    headers = [{"name": "X-Key", **named}]
    server = {"headers": headers} if field == "headers[0]" else {field: named}
    with pytest.raises(BindingFault, match=why) as raised:
        await read(spec(**server), Cluster(prefect=encoded(key=value)))
    found = raised.value
    assert (found.condition, found.reason) == ("CredentialsValid", "SecretValueInvalid")
    assert str(found).startswith(f"spec.server.{field}.secretKeyRef: key 'key' of Secret 'prefect'")
    assert SECRET not in str(found)


async def test_a_client_certificate_is_read_from_a_tls_secret(tmp_path):
    pair = PrivateCA.make(tmp_path, host="prefect").client
    server = spec(tls={"clientCertificate": {"secretRef": {"name": "client"}}})
    found = await read(server, Cluster(client=encoded(**pair)))
    assert found.trust.client_certificate == ClientCertificate(pair["tls.crt"], pair["tls.key"])
    with pytest.raises(BindingFault, match=r"has no key 'tls\.key' \(its keys: tls\.crt\)"):
        await read(server, Cluster(client=encoded(**{"tls.crt": pair["tls.crt"]})))
    pair["tls.key"] = PrivateCA.make(tmp_path, host="prefect").client["tls.key"]
    with pytest.raises(BindingFault, match="is not the key of the certificate") as raised:
        await read(server, Cluster(client=encoded(**pair)))
    field = "spec.server.tls.clientCertificate.secretRef: key 'tls.key' of Secret 'client'"
    assert str(raised.value).startswith(field)
    assert raised.value.reason == "SecretValueInvalid"


@pytest.mark.parametrize(
    ("error", "trust", "hint"),
    [
        (PrefectDisconnected("closed"), TLSTrust(), "name its Secret in spec.server.tls.client"),
        (PrefectRefused("HTTP 400", status=400), TLSTrust(), "If it requires a client certificate"),
        (
            PrefectDisconnected("closed"),
            TLSTrust(client_certificate=ClientCertificate("", "")),
            "Perhaps it does not accept the client certificate",
        ),
    ],
)
async def test_a_connection_that_is_closed_may_want_a_client_certificate(error, trust, hint):
    assert hint in str(await fault(error, "https://prefect/api", trust=trust))
    assert "client certificate" not in str(await fault(error, INSIDE, trust=trust))
    assert "client certificate" not in str(await fault(DOWN, "https://prefect/api", trust=trust))


async def test_a_value_that_is_not_text_is_reported():
    kube = Cluster(prefect={"data": {"key": base64.b64encode(b"\xff\xfe").decode()}})
    with pytest.raises(BindingFault, match="is not UTF-8 text"):
        await read(spec(apiKey=reference("prefect", "key")), kube)


@pytest.mark.parametrize(
    ("ca", "kube", "reason", "why"),
    [
        ("configMapKeyRef", Cluster(), "ConfigMapNotFound", "ConfigMap 'ca' does not exist"),
        ("secretKeyRef", Cluster(), "SecretNotFound", "Secret 'ca' does not exist"),
        (
            "configMapKeyRef",
            Cluster(ca={"data": {"other": "x"}}),
            "ConfigMapKeyMissing",
            r"no key 'ca.pem' \(its keys: other\)",
        ),
        (
            "configMapKeyRef",
            Cluster(ca={"data": {"ca.pem": "no PEM"}}),
            "ConfigMapValueInvalid",
            "no certificate in PEM format",
        ),
        (
            "secretKeyRef",
            Cluster(ca=encoded(**{"ca.pem": "no PEM"})),
            "SecretValueInvalid",
            "no certificate in PEM format",
        ),
    ],
)
async def test_a_ca_that_cannot_be_used_is_reported_with_its_field(ca, kube, reason, why):
    wanted = spec(caBundle={ca: {"name": "ca", "key": "ca.pem"}})
    with pytest.raises(BindingFault, match=why) as raised:
        await preflight_checks.read_ca(wanted, namespace="data", kube=kube)
    assert (raised.value.condition, raised.value.reason) == ("ServerResolved", reason)
    assert str(raised.value).startswith(f"spec.server.caBundle.{ca}: ")


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ('{"CF-Access-Client-Id": "abc"}', True),
        ("{}", True),
        ("CF-Access-Client-Id: abc", False),
        ('["abc"]', False),
        ('{"CF-Access-Client-Id": 1}', False),
        ('{"CF-Access-Client-Id": "a\\nb"}', False),
        ('{"Host": "abc"}', False),
    ],
)
async def test_headers_of_run_pods_must_be_json_as_prefects_client_reads_it(value, fine):
    selector = spec(apiKey=reference("headers", "json")).server.api_key
    assert selector is not None
    key = KeyReference(selector.secret_key_ref, "data", path="spec.jobs.headers", condition="Ready")
    kube: Any = Cluster(headers=encoded(json=value))
    if fine:
        await key.headers(kube)
        return
    with pytest.raises(BindingFault, match="is not a JSON object like"):
        await key.headers(kube)


@pytest.mark.parametrize(("policy", "advised"), [("Never", True), ("IfNotPresent", False)])
def test_a_missing_pool_is_reported_with_the_policies_that_would_create_it(
    policy: str, advised: bool
) -> None:
    pool = {"name": "etl", "creationPolicy": policy}
    wanted = Spec.model_validate({"workPool": pool, "server": {"url": INSIDE}})
    api: Any = Api(DOWN, PrefectEndpoint(INSIDE))
    with pytest.raises(BindingFault, match="prefect work-pool create 'etl'") as raised:
        preflight_checks.check_pool_type(None, wanted, api)
    assert ("set spec.workPool.creationPolicy" in str(raised.value)) is advised
