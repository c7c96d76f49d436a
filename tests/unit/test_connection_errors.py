"""Real failures of the clients that the operator uses, and how they are explained."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import aiohttp
import httpx
import pytest
from websockets.asyncio.client import connect

from tests.support.private_ca import PrivateCA
from workpool_operator import connection_errors

REQUEST: Any = None

SECRET = "pnu_TOPSECRET1234"


async def answers_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with what was sent, which is not HTTP."""
    sent = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"nonsense " + sent)
    writer.close()


async def answers_without_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await reader.read()
    writer.close()


async def aborts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def by_httpx(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(url, headers={"Authorization": f"Bearer {SECRET}"})


async def by_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as client, client.get(url, headers={"X-Key": SECRET}):
        pass


async def by_websockets(url: str) -> None:
    address = url.replace("http", "ws", 1)
    async with connect(address, additional_headers={"X-Key": SECRET}, proxy=None):
        pass


CLIENTS = [by_httpx, by_aiohttp, by_websockets]


async def failure(call, url: str) -> str:
    with pytest.raises(Exception) as failed:  # noqa: PT011 - whatever the library raises
        await asyncio.wait_for(call(url), 10)
    assert SECRET not in connection_errors.explain(failed.value)
    return connection_errors.explain(failed.value)


@pytest.mark.parametrize("call", CLIENTS)
async def test_a_closed_port_refuses_the_connection(call):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        assert await failure(call, url) == "connection refused"


@pytest.mark.parametrize("call", CLIENTS)
async def test_a_host_name_that_does_not_exist_cannot_be_resolved(call):
    assert await failure(call, "http://unknown.invalid/") == "the host name cannot be resolved"


@pytest.mark.parametrize("call", CLIENTS)
@pytest.mark.parametrize("handler", [answers_nonsense, aborts])
async def test_an_answer_that_is_not_http_is_not_quoted(call, handler):
    async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        text = await failure(call, f"http://127.0.0.1:{port}/")
    assert "nonsense" not in text
    assert text.startswith(("the connection failed (", "connection reset"))


@pytest.mark.parametrize("call", CLIENTS)
async def test_a_server_without_tls_is_reported_as_such(call):
    async with await asyncio.start_server(answers_without_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        text = await failure(call, f"https://127.0.0.1:{port}/")
    assert text == "the server does not speak TLS"


@pytest.mark.parametrize("call", CLIENTS)
async def test_a_certificate_that_is_not_trusted_is_reported_as_such(call, tmp_path):
    tls = PrivateCA.make(tmp_path, host="127.0.0.1").server
    async with await asyncio.start_server(aborts, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        text = await failure(call, f"https://127.0.0.1:{port}/")
    assert text.startswith("the certificate is not trusted: unable to get local issuer")


@pytest.mark.parametrize(
    ("refusal", "repair"),
    [
        ("certificate has expired", "Renew it: the certificate of the server, of a proxy"),
        ("certificate is not yet valid", "Correct the clock"),
        ("Hostname mismatch, certificate is not valid for 'b'", "Use an address that"),
        ("IP address mismatch, certificate is not valid for '::1'", "Use an address that"),
        ("self-signed certificate", "If a private CA signed it, name it there."),
        ("unable to get local issuer certificate", "If a private CA signed it, name it there."),
    ],
)
def test_the_repair_of_a_refused_certificate_follows_from_what_is_wrong_with_it(refusal, repair):
    error = OSError(f"the certificate is not trusted: {refusal}")
    found = connection_errors.repair_untrusted(
        error, url="https://prefect.example/api", trust="name it there"
    )
    assert found.startswith(repair)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://a.svc/api", "a.svc:443"),
        ("https://a:8443", "a:8443"),
        ("https://[::1]/", "[::1]:443"),
    ],
)
def test_the_certificates_of_a_server_are_shown_by_openssl(url, address):
    shown = connection_errors.show_certificates(url)
    assert shown == f"openssl s_client -connect {address} </dev/null"


def test_a_header_with_a_line_break_is_never_quoted():
    """h11's own message contains the value."""
    error = httpx.LocalProtocolError(f"Illegal header value b'Bearer {SECRET}\\nmore'")
    assert connection_errors.explain(error) == "the connection failed (LocalProtocolError)"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "timed out"),
        (httpx.ReadTimeout(SECRET), "timed out"),
        (httpx.ProxyError("407 Proxy Authentication Required"), "the proxy answered 407"),
        (aiohttp.ClientHttpProxyError(REQUEST, (), status=407), "the proxy answered 407"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), "connection refused"),
        (ConnectionResetError(), "the connection failed (ConnectionResetError)"),
        (ssl.SSLError(1, SECRET), "the connection failed (SSLError)"),
    ],
)
def test_the_explanation_is_built_from_type_and_error_number(error, text):
    assert connection_errors.explain(error) == text


def test_the_cause_is_found_behind_the_exceptions_of_a_library():
    group = ExceptionGroup("tries", [OSError(113, "x"), OSError(113, "x")])
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = group
    assert connection_errors.explain(error) == "no route to host"
