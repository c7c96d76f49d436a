"""How requests and the event stream reach a server: proxies, headers, trusted CAs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prefect import settings as prefect_settings
from prefect.settings import temporary_settings

from tests.support.forward_proxy import ForwardProxy
from tests.support.private_ca import PrivateCA
from workpool_operator import settings
from workpool_operator.errors import (
    OperatorError,
    PrefectConflict,
    PrefectDisconnected,
    PrefectForbidden,
    PrefectNotFound,
    PrefectRedirects,
    PrefectRefused,
    PrefectThrottled,
    PrefectUnauthorized,
    PrefectUnavailable,
    PrefectUntrusted,
)
from workpool_operator.prefect_api import endpoint, profile
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import ClientCertificate, PrefectEndpoint, TLSTrust
from workpool_operator.prefect_api.events import EventStream

HOST = "prefect.example"
SECRET = "a-secret-4711"
LOOPBACK = "127.0.0.1"
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


ENCRYPTED_KEY = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a-password"),
    )
    .decode()
)


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class RecordingServer:
    """A server that answers every request with `answer`, and records the headers by path."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self.headers: dict[str, dict[str, str]] = {}
        self.port = 0
        self._answer = answer

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.headers[request.path] = dict(request.headers)
        if request.path.endswith("/events/out") and self._answer is version:
            socket = web.WebSocketResponse(protocols=["prefect"])
            await socket.prepare(request)
            await socket.receive()
            await socket.send_json({"type": "auth_success"})
            await socket.receive()
            await socket.close()
            return socket
        return await self._answer(request)


async def version(request: web.Request) -> web.StreamResponse:
    return web.json_response("3.8.8")


@asynccontextmanager
async def serving(
    answer=version, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RecordingServer]:
    server = RecordingServer(answer)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=tls)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


async def get_version(at: PrefectEndpoint) -> str:
    async with PrefectApi(at, pool="p") as api:
        return await api.version()


async def listen(at: PrefectEndpoint) -> str | None:
    """Return the first report of the stream: None when it opened."""
    reports: asyncio.Queue[str | None] = asyncio.Queue()
    connected = reports.put_nowait
    stream = EventStream(at, pool_id=UUID(int=1), changed=lambda _: None, connected=connected)
    task = asyncio.create_task(stream.run())
    try:
        return await asyncio.wait_for(reports.get(), 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# CSRF tokens


@pytest.mark.parametrize(
    "first",
    [
        web.json_response({"detail": "CSRF protection is disabled."}, status=422),
        web.Response(text="<h1>no route</h1>", status=404),
    ],
    ids=["turned on later", "an ingress without a route for a moment"],
)
async def test_a_server_that_requires_csrf_tokens_gets_one_whatever_it_answered_before(first):
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/csrf-token"):
            asked.append(request)
            if len(asked) == 1:
                return web.Response(
                    body=first.body, status=first.status, content_type=first.content_type
                )
            token = {"token": "t", "client": "c", "expiration": "2999-01-01T00:00:00Z"}
            return web.json_response(token)
        if request.headers.get("Prefect-Csrf-Token") != "t":
            return web.json_response({"detail": "Missing CSRF token."}, status=403)
        return web.json_response([])

    async with serving(answer) as server:
        at = PrefectEndpoint(f"http://{LOOPBACK}:{server.port}/api")
        async with PrefectApi(at, pool="p") as api:
            assert await api.filter_runs({}) == []
            assert await api.filter_runs({}) == []
    assert len(asked) == 2


# Proxies


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_requests_and_the_event_stream_go_through_the_proxy_which_resolves_the_host(
    monkeypatch, variable
):
    async with serving() as server:
        with ForwardProxy({HOST: LOOPBACK}) as proxy:
            monkeypatch.setenv(variable, proxy.url)
            at = PrefectEndpoint(f"http://{HOST}:{server.port}/api")
            assert await get_version(at) == "3.8.8"
            assert await listen(at) is None
        assert proxy.requests[0] == f"GET http://{HOST}:{server.port}/api/admin/version"
        assert proxy.requests[-1] == f"CONNECT {HOST}:{server.port}"


async def test_https_is_tunnelled_through_the_proxy_and_http_is_not(monkeypatch, tmp_path):
    ca = PrivateCA.make(tmp_path, host=HOST)
    async with serving(tls=ca.server) as server, serving() as plain:
        with ForwardProxy({HOST: LOOPBACK}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            at = PrefectEndpoint(f"https://{HOST}:{server.port}/api", trust=TLSTrust(ca.pem))
            assert await get_version(at) == "3.8.8"
            assert await listen(at) is None
            assert set(proxy.requests) == {f"CONNECT {HOST}:{server.port}"}
            proxy.requests.clear()
            monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
            inside = PrefectEndpoint(f"http://{LOOPBACK}:{plain.port}/api")
            assert await get_version(inside) == "3.8.8"
            assert await listen(inside) is None
            assert proxy.requests == []


async def test_a_proxy_that_is_down_is_an_outage(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(PrefectUnavailable, match="connection refused"):
        await get_version(PrefectEndpoint(f"http://{HOST}/api"))


# Headers


async def test_configured_headers_are_sent_everywhere_and_those_of_the_users_profile_nowhere():
    of_the_user = temporary_settings(
        {prefect_settings.PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Of-The-User": "somewhere else"}}
    )
    async with serving() as server:
        at = PrefectEndpoint(
            f"http://{LOOPBACK}:{server.port}/api",
            auth_string="me:secret",
            headers=(("CF-Access-Client-Id", "abc"), ("CF-Access-Client-Secret", SECRET)),
        )
        with of_the_user:
            assert await get_version(at) == "3.8.8"
            assert await listen(at) is None
    for path in ("/api/admin/version", "/api/events/out"):
        sent = server.headers[path]
        assert sent["CF-Access-Client-Id"] == "abc"
        assert sent["CF-Access-Client-Secret"] == SECRET
        assert sent["Authorization"] == "Basic bWU6c2VjcmV0"
        assert sent["User-Agent"].startswith("prefect/3.")
        assert "X-Of-The-User" not in sent


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Host", "set by the HTTP client"),
        ("Sec-WebSocket-Key", "set by the HTTP client"),
        ("Transfer-Encoding", "set by the HTTP client"),
        ("user-agent", "set by the HTTP client"),
        ("Proxy-Authorization", "set by the HTTP client"),
        ("X Y", "is not a valid HTTP header name"),
        ("X:Y", "is not a valid HTTP header name"),
        ("X\n", "is not a valid HTTP header name"),
        ("", "is not a valid HTTP header name"),
        ("authorization", "keep one of the two"),
    ],
)
def test_a_header_that_cannot_be_added_is_refused_with_the_reason(name, why):
    assert why in endpoint.header_name_problem(name, authorized=True)


def test_an_authorization_header_can_be_added_if_no_credentials_set_one():
    assert endpoint.header_name_problem("Authorization", authorized=False) == ""
    assert endpoint.header_name_problem("CF-Access-Client-Id", authorized=True) == ""


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "is empty"),
        ("key\nand more", "has more than one line"),
        ("key\rmore", "has more than one line"),
        ("schlüssel", "has characters that are not printable ASCII"),
        ("key\tmore", "has characters that are not printable ASCII"),
        ("pnu_0123456789", ""),
        ("user:pass word", ""),
    ],
)
def test_a_value_that_cannot_be_a_header_is_explained_without_the_value(value, fault):
    assert endpoint.header_value_problem(value) == fault


# Answers are not quoted


async def test_a_page_that_repeats_the_request_is_not_quoted():
    async def echo(request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": f"no entry with {dict(request.headers)}"}, status=403)

    async with serving(echo) as server:
        at = PrefectEndpoint(
            f"http://{LOOPBACK}:{server.port}/api",
            auth_string="me:secret-4712",
            headers=(("X-Key", SECRET),),
        )
        with pytest.raises(PrefectRefused) as raised:
            await get_version(at)
    assert "no entry with" in str(raised.value)
    for secret in (SECRET, "secret-4712", "bWU6c2VjcmV0LTQ3MTI="):
        assert secret not in str(raised.value)


async def test_a_web_page_is_not_quoted_at_all():
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(status=502 if "x" in request.query else 500, text="<h1>Oh no</h1>")

    async with serving(page) as server:
        with pytest.raises(PrefectUnavailable, match=r"^GET /api/admin/version: HTTP 500$"):
            await get_version(PrefectEndpoint(f"http://{LOOPBACK}:{server.port}/api"))


async def test_the_reason_in_an_answer_of_prefect_is_quoted():
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": "Work queue 'hihg' not found."}, status=404)

    async with serving(answer) as server:
        with pytest.raises(PrefectNotFound, match="HTTP 404 Work queue 'hihg' not found"):
            await get_version(PrefectEndpoint(f"http://{LOOPBACK}:{server.port}/api"))


async def test_the_field_that_prefects_validation_refuses_is_named():
    detail = [{"loc": ["body", "base_job_template"], "msg": "no variables", "input": SECRET}]
    body = {"exception_message": "Invalid request received.", "exception_detail": detail}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=422)

    async with serving(answer) as server:
        text = "Invalid request received. body.base_job_template: no variables$"
        with pytest.raises(PrefectRefused, match=text):
            await get_version(PrefectEndpoint(f"http://{LOOPBACK}:{server.port}/api"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, PrefectUnauthorized),
        (403, PrefectForbidden),
        (404, PrefectNotFound),
        (405, PrefectRefused),
        (408, PrefectUnavailable),
        (409, PrefectConflict),
        (429, PrefectThrottled),
        (500, PrefectUnavailable),
    ],
)
async def test_a_failed_request_raises_the_type_of_its_http_code(status, kind):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": "no"}, status=status)

    async with serving(answer) as server:
        with pytest.raises(OperatorError, match=f"HTTP {status}") as raised:
            await get_version(PrefectEndpoint(f"http://{LOOPBACK}:{server.port}/api"))
    assert type(raised.value) is kind


# Redirects


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_reported_with_the_address_of_the_api_and_not_followed(status):
    async def upgrade(request: web.Request) -> web.StreamResponse:
        target = f"https://prefect.example.com{request.path}?token=4711"
        return web.Response(status=status, headers={"Location": target})

    async with serving(upgrade) as server:
        at = PrefectEndpoint(f"http://{LOOPBACK}:{server.port}/api", api_key=SECRET)
        with pytest.raises(PrefectRedirects) as raised:
            await get_version(at)
        assert await listen(at)
    assert (raised.value.to, raised.value.is_api) == ("https://prefect.example.com/api", True)
    assert raised.value.status == status
    assert "4711" not in str(raised.value)


async def test_a_redirect_to_a_login_page_names_only_its_server():
    async def login(request: web.Request) -> web.StreamResponse:
        target = "https://me:pw@login.example.com/authorize?state=4711"
        return web.Response(status=302, headers={"Location": target})

    async with serving(login) as server:
        with pytest.raises(PrefectRedirects) as raised:
            await get_version(PrefectEndpoint(f"http://{LOOPBACK}:{server.port}/api"))
    assert (raised.value.to, raised.value.is_api) == ("https://login.example.com", False)


# Certificates


async def test_a_private_ca_is_trusted_if_it_is_named_and_reported_as_untrusted_if_not(tmp_path):
    ca = PrivateCA.make(tmp_path, host=LOOPBACK)
    async with serving(tls=ca.server) as server:
        url = f"https://{LOOPBACK}:{server.port}/api"
        for trust in (TLSTrust(ca.pem), TLSTrust(verify=False)):
            assert await get_version(PrefectEndpoint(url, trust=trust)) == "3.8.8"
            assert await listen(PrefectEndpoint(url, trust=trust)) is None
        with pytest.raises(PrefectUntrusted, match="the certificate is not trusted: unable to get"):
            await get_version(PrefectEndpoint(url))
        assert "not trusted" in str(await listen(PrefectEndpoint(url)))


async def test_a_client_certificate_is_sent_with_requests_and_to_the_event_stream(tmp_path):
    ca = PrivateCA.make(tmp_path, host=LOOPBACK)
    ca.require_client_certificates()
    own = ClientCertificate(ca.client["tls.crt"], ca.client["tls.key"])
    async with serving(tls=ca.server) as server:
        url = f"https://{LOOPBACK}:{server.port}/api"
        at = PrefectEndpoint(url, trust=TLSTrust(ca.pem, client_certificate=own))
        assert await get_version(at) == "3.8.8"
        assert await listen(at) is None
        with pytest.raises(PrefectDisconnected):
            await get_version(PrefectEndpoint(url, trust=TLSTrust(ca.pem)))
    assert "PRIVATE KEY" not in repr(at)


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("tls.crt", "other", "is not the key of the certificate"),
        ("tls.key", "tls.key", "is not a certificate and a key in PEM format"),
        ("tls.crt", "encrypted", "is not a certificate and a key in PEM format"),
        ("tls.crt", "tls.crt", "is not a certificate and a key in PEM format"),
    ],
)
def test_a_client_certificate_that_cannot_be_used_is_never_quoted(tmp_path, certificate, key, why):
    given = PrivateCA.make(tmp_path, host=LOOPBACK).client
    given |= {"other": PrivateCA.make(tmp_path, host=LOOPBACK).client["tls.key"]}
    given |= {"encrypted": ENCRYPTED_KEY}
    with pytest.raises(ValueError, match=why):
        ClientCertificate(given[certificate], given[key]).load(ssl.create_default_context())


async def test_a_ca_without_key_usage_is_trusted_if_the_setting_allows_it(tmp_path, monkeypatch):
    """From Python 3.13 on, create_default_context() requires what RFC 5280 requires."""
    create = ssl.create_default_context

    def strict() -> ssl.SSLContext:
        context = create()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    ca = PrivateCA.make(tmp_path, host=LOOPBACK, strict=False)
    async with serving(tls=ca.server) as server:
        at = PrefectEndpoint(f"https://{LOOPBACK}:{server.port}/api", trust=TLSTrust(ca.pem))
        with pytest.raises(PrefectUntrusted):
            await get_version(at)
        monkeypatch.setenv("WORKPOOL_OPERATOR_TLS_STRICT", "false")
        settings.tls_strict.cache_clear()
        try:
            assert await get_version(at) == "3.8.8"
            assert await listen(at) is None
        finally:
            settings.tls_strict.cache_clear()


def test_only_the_certificates_of_a_pem_file_are_kept(tmp_path):
    ca = PrivateCA.make(tmp_path, host=LOOPBACK)
    key = "-----BEGIN PRIVATE KEY-----\nMIG2\n-----END PRIVATE KEY-----\n"
    assert endpoint.certificates(f"# Türk CA\n{ca.pem}\n{key}") == ca.pem
    with pytest.raises(ValueError, match="has no certificate in PEM format"):
        endpoint.certificates(key)
    broken = f"{BEGIN}\nAAAA\n{END}"
    with pytest.raises(ValueError, match="has a certificate that cannot be read"):
        endpoint.certificates(broken)


# The user's own Prefect, for a command and for the worker type


def test_headers_and_ca_are_read_from_the_users_prefect_settings(tmp_path):
    ca = PrivateCA.make(tmp_path, host=LOOPBACK)
    (tmp_path / "ca.pem").write_text(ca.pem)
    theirs = {
        prefect_settings.PREFECT_API_URL: "https://prefect/api",
        prefect_settings.PREFECT_API_KEY: SECRET,
        prefect_settings.PREFECT_API_SSL_CERT_FILE: str(tmp_path / "ca.pem"),
        prefect_settings.PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True,
        prefect_settings.PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Key": "abc", "User-Agent": "me"},
    }
    with temporary_settings(theirs):
        found = profile.current()
    assert found.url == "https://prefect/api"
    assert found.headers == (("X-Key", "abc"),)
    assert found.trust == TLSTrust(ca.pem, verify=False)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PREFECT_API_KEY", f"{SECRET}\nmore", "PREFECT_API_KEY has more than one line"),
        ("PREFECT_API_SSL_CERT_FILE", "/nowhere.pem", "/nowhere.pem cannot be read: No such"),
        ("PREFECT_API_SSL_CERT_FILE", __file__, "has no certificate in PEM format"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", {"X-Key": "a\nb"}, "'X-Key' has more than one"),
    ],
)
def test_an_invalid_setting_of_the_users_prefect_is_named(name, value, text):
    with (
        temporary_settings({getattr(prefect_settings, name): value}),
        pytest.raises(OperatorError, match=text) as failed,
    ):
        profile.current()
    assert SECRET not in str(failed.value)


def test_the_password_in_an_address_is_never_shown():
    at = PrefectEndpoint("https://me:secret@prefect/api")
    assert at.address == "https://prefect/api"
