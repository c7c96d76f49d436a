"""Which server a command talks to, and which setting is named where that fails."""

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


def told(found: ServerConnection, error: OperatorError) -> str:
    with pytest.raises(OperatorError) as raised, explain_failures(found):
        raise error
    return str(raised.value)


async def test_where_the_address_is_the_bindings_its_field_and_file_are_named():
    text = told(await of_binding(), DOWN)
    assert text.startswith(f"{URL} (spec.server.url of good.yaml) cannot be reached: connection")
    assert "PREFECT_API_URL" not in text


async def test_where_the_environment_has_the_address_its_variable_is_named(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:4200/api")
    with temporary_settings({PREFECT_API_URL: "http://elsewhere:4200/api"}):
        assert (await of_binding()).url == "PREFECT_API_URL"


async def test_a_certificate_that_is_not_trusted_is_told_with_the_settings_for_a_ca():
    error = PrefectUntrusted("GET /x: the certificate is not trusted: self-signed certificate")
    text = told(await of_binding(), error)
    assert "not trusted: self-signed certificate" in text
    assert "spec.server.caBundle of good.yaml, or PREFECT_API_SSL_CERT_FILE" in text


async def test_refused_credentials_are_told_with_the_settings_for_them():
    text = told(await of_binding(), PrefectUnauthorized("x", status=401))
    assert "answered 401 to a request without credentials" in text
    assert "spec.server.apiKey of good.yaml, or PREFECT_API_KEY" in text


async def test_a_redirect_is_told_with_its_target():
    error = PrefectRedirects("x", status=301, to="https://prefect.example/api", is_api=True)
    text = told(await of_binding(), error)
    assert "redirects to https://prefect.example/api: set spec.server.url of good.yaml" in text


async def test_what_a_binding_names_cannot_be_read_without_a_cluster():
    named = {"secretKeyRef": {"name": "prefect", "key": "key"}}
    with pytest.raises(OperatorError, match="is in a cluster that cannot be reached"):
        await of_binding(apiKey=named)


@pytest.mark.parametrize(
    ("url", "doubt"),
    [
        ("http://prefect.example:4200", "has no /api in its path"),
        ("http://localhost:4200/api", ""),
    ],
)
def test_an_address_that_is_likely_to_be_wrong_is_said_to_be(url, doubt):
    found = ServerConnection(PrefectEndpoint(url), url="PREFECT_API_URL", credentials="", ca="")
    text = told(found, PrefectNotFound("GET /x: HTTP 404", status=404))
    assert doubt in text
    assert "pod" not in text
