"""The proxy through which an address is reached, for REST and websockets alike."""

from __future__ import annotations

import pytest

from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api.proxies import proxy_of

PROXY = "http://proxy:3128"
BOTH = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}


def address(url: str, **environ: str) -> str | None:
    proxy = proxy_of(url, environ)
    return proxy.address if proxy else None


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("http://prefect/api", "HTTP_PROXY"),
        ("ws://prefect/api/events/out", "HTTP_PROXY"),
        ("https://prefect/api", "HTTPS_PROXY"),
        ("wss://prefect/api/events/out", "HTTPS_PROXY"),
    ],
)
def test_the_scheme_selects_the_proxy_for_requests_and_the_event_stream_alike(url, variable):
    others = {"HTTP_PROXY", "HTTPS_PROXY"} - {variable}
    assert address(url, **{variable: PROXY}) == PROXY
    assert address(url, **{variable.lower(): PROXY}) == PROXY
    assert address(url, ALL_PROXY=PROXY) == PROXY
    assert address(url, **dict.fromkeys(others, PROXY)) is None


def test_the_lower_case_has_precedence_and_an_empty_variable_counts_as_unset():
    assert address("http://a/api", HTTP_PROXY="http://upper", http_proxy="http://lower:1") == (
        "http://lower:1"
    )
    assert address("http://a/api", HTTP_PROXY=" ", NO_PROXY="") is None


def test_http_proxy_of_a_cgi_program_is_ignored_because_its_client_can_set_it():
    assert address("http://a/api", HTTP_PROXY=PROXY, REQUEST_METHOD="GET") is None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("prefect-server.prefect.svc", ".svc"),
        ("prefect-server.prefect.svc", "*.svc"),
        ("prefect-server.prefect.svc", "svc"),
        ("prefect-server.prefect.svc", "example.com, .svc"),
        ("prefect-server.prefect.svc.", ".svc"),
        ("Prefect.Example.COM", "example.com"),
        ("example.com", "EXAMPLE.com"),
        ("example.com:8443", "example.com:8443"),
        ("10.1.2.3:4200", "10.0.0.0/8"),
        ("10.1.2.3:4200", "10.1.2.3"),
        ("10.1.2.3:4200", "10.1.2.3:4200"),
        ("[fd00::1]:4200", "fd00::/8"),
        ("[fd00::1]:4200", "fd00::1"),
        ("[fd00::1]:4200", "[fd00::1]:4200"),
        ("anything", "*"),
    ],
)
def test_no_proxy_covers_hosts_domains_addresses_and_networks(host, no_proxy):
    for scheme in ("http", "ws", "https", "wss"):
        assert address(f"{scheme}://{host}/api", **BOTH, NO_PROXY=no_proxy) is None
        assert address(f"{scheme}://{host}/api", **BOTH, no_proxy=no_proxy) is None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("example.com", ".example.com"),
        ("wwwexample.com", "example.com"),
        ("example.com", "example.com:8443"),
        ("prefect-server.prefect.svc", "10.0.0.0/8"),
        ("11.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.0.0.0/99"),
        ("10.1.2.3", "0.1.2.3"),
        ("example.com", "svc,,  ,"),
    ],
)
def test_no_proxy_covers_nothing_else(host, no_proxy):
    assert address(f"https://{host}/api", **BOTH, NO_PROXY=no_proxy) == PROXY


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_loopback_is_reached_directly(host):
    assert address(f"http://{host}:4200/api", **BOTH) is None


def test_a_proxy_does_not_need_a_scheme_and_its_password_is_never_shown():
    found = proxy_of("http://a/api", {"http_proxy": "me:secret@proxy:3128"})
    assert found is not None
    assert found.url == "http://me:secret@proxy:3128"
    assert found.address == PROXY
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    "value", ["socks5://me:secret@proxy:1080", "http://me:secret@proxy:x", "http://"]
)
def test_an_invalid_proxy_is_reported_with_its_variable_and_without_its_value(value):
    with pytest.raises(OperatorError, match="HTTPS_PROXY: not a valid proxy") as refused:
        proxy_of("https://a/api", {"HTTPS_PROXY": value})
    assert "secret" not in str(refused.value)
