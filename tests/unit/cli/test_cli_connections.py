"""Which server a command uses, and which setting its errors name."""

from __future__ import annotations

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.context import Binding
from workpool_operator.cli import connections
from workpool_operator.cli.connections import ServerConnection, explain_failures
from workpool_operator.errors import (
    OperatorError,
    PrefectNotFound,
    PrefectRedirects,
    PrefectThrottled,
    PrefectUnauthorized,
    PrefectUnavailable,
    PrefectUntrusted,
)
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

URL = "http://prefect.example:4200/api"
DOWN = PrefectUnavailable("GET /work_pools/etl: connection refused")


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch):
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)


async def of_binding(**server) -> ServerConnection:
    spec = Spec.model_validate({"workPool": {"name": "p"}, "server": {"url": URL, **server}})
    binding = Binding("data", "etl", spec=lambda: spec, generation=lambda: 1, status={})
    return await connections.connect_server(binding, None, named="good.yaml")


def explained(found: ServerConnection, error: OperatorError) -> str:
    with pytest.raises(OperatorError) as raised, explain_failures(found):
        raise error
    return str(raised.value)


async def test_an_error_names_the_field_and_file_of_the_bindings_address():
    text = explained(await of_binding(), DOWN)
    assert text.startswith(f"cannot reach {URL} (spec.server.url of good.yaml): connection refused")
    assert "PREFECT_API_URL" not in text


async def test_an_error_names_the_variable_that_has_the_address(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://other:4200/api")
    with temporary_settings({PREFECT_API_URL: "http://other:4200/api"}):
        assert (await of_binding()).url == "PREFECT_API_URL"


async def test_an_untrusted_certificate_is_reported_with_the_settings_for_a_ca():
    error = PrefectUntrusted("GET /x: the certificate is not trusted: self-signed certificate")
    text = explained(await of_binding(), error)
    assert "not trusted: self-signed certificate" in text
    assert "spec.server.caBundle of good.yaml, or PREFECT_API_SSL_CERT_FILE" in text


async def test_refused_credentials_are_reported_with_the_settings_for_them():
    text = explained(await of_binding(), PrefectUnauthorized("x", status=401))
    assert "answered 401 to a request without credentials: set" in text
    assert "spec.server.apiKey of good.yaml, or PREFECT_API_KEY" in text


async def test_a_redirect_is_reported_with_its_target():
    error = PrefectRedirects("x", status=301, to="https://prefect.example/api", is_api=True)
    text = explained(await of_binding(), error)
    assert "redirects to https://prefect.example/api: set spec.server.url of good.yaml" in text


async def test_the_secrets_of_a_binding_cannot_be_read_without_a_cluster():
    named = {"secretKeyRef": {"name": "prefect", "key": "key"}}
    with pytest.raises(OperatorError, match="cannot read the Secrets"):
        await of_binding(apiKey=named)


@pytest.mark.parametrize(
    ("url", "warning"),
    [
        ("http://prefect.example:4200", "has no /api in its path"),
        ("http://localhost:4200/api", ""),
    ],
)
def test_an_error_says_what_is_probably_wrong_with_the_address(url, warning):
    found = ServerConnection(PrefectEndpoint(url), url="PREFECT_API_URL", credentials="", ca="")
    text = explained(found, PrefectNotFound("GET /x: HTTP 404", status=404))
    assert warning in text
    assert "pod" not in text


async def test_a_rate_limit_is_reported_with_the_time_that_the_server_named():
    error = PrefectThrottled("GET /x: HTTP 429", retry_after=30)
    text = explained(await of_binding(), error)
    assert (
        text
        == f"{URL} (spec.server.url of good.yaml) limits the rate of requests: try again in 30 s"
    )


@pytest.mark.parametrize("host", ["prefect.data.svc", "prefect.data.svc.cluster.local"])
async def test_an_address_of_a_service_has_the_way_to_reach_it_from_outside(host):
    text = explained(await of_binding(url=f"http://{host}:4200/api"), DOWN)
    assert text.endswith(f"address right? {connections.ELSEWHERE}")
    assert connections.ELSEWHERE not in explained(await of_binding(), DOWN)
