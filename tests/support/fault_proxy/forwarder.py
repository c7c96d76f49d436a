"""Forwards one HTTP request or websocket to the real server.

Bodies and end-to-end headers stay unchanged; the endpoint's credentials are added only to a request
that has none.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from tests.support.background_server import run_until_first
from tests.support.endpoint import Endpoint

#: Belong to one connection (RFC 9110, 7.6.1); a proxy's two connections each have their own.
HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("transfer-encoding", "upgrade", "host", "content-length"),
}
#: Kubernetes' watches and followed logs, which must not be read to their end.
FOLLOWS = re.compile(r"(^|&)(watch|follow)=(1|true)", re.IGNORECASE)

WebSocket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


class Forwarder:
    """The client of the real server; used inside its context."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def __aenter__(self) -> Forwarder:
        self._client = aiohttp.ClientSession(
            # Shorter than the 5 s of Prefect's server, so that no request meets its end.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3),
            timeout=aiohttp.ClientTimeout(),
            auto_decompress=False,
            skip_auto_headers=["Accept", "Accept-Encoding", "Content-Type", "User-Agent"],
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._client.connector is not None
        # Not to wait for the other side's close_notify.
        await self._client.connector.close(abort_ssl=True)
        await self._client.close()

    @asynccontextmanager
    async def forward(
        self, request: web.Request, body: bytes
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._client.request(
            request.method,
            self._target(request),
            headers=self._headers(request),
            data=body or None,
            ssl=self._tls(request),
            allow_redirects=False,
        ) as response:
            try:
                yield response
            finally:
                _abort_unread(response)

    @asynccontextmanager
    async def connect(self, request: web.Request) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open the requested websocket; raises aiohttp.WSServerHandshakeError if refused."""
        async with self._client.ws_connect(
            self._target(request),
            protocols=protocols(request),
            headers=self._headers(request),
            ssl=self._tls(request),
            max_msg_size=0,
        ) as server:
            yield server

    def _target(self, request: web.Request) -> URL:
        return URL(f"{URL(self.endpoint.url).origin()}{request.raw_path}", encoded=True)

    def _headers(self, request: web.Request) -> CIMultiDict[str]:
        headers = end_to_end(request.headers)
        if "Authorization" not in headers:
            headers.update(self.endpoint.headers)
        return headers

    def _tls(self, request: web.Request) -> Any:
        """Without the client certificate where the request has credentials: it would win."""
        own = "Authorization" in request.headers
        return (self.endpoint.tls if own else self.endpoint.certified_tls) or True


async def join(one: WebSocket, other: WebSocket) -> None:
    """Pass messages in both directions until either side ends."""
    await run_until_first(_pump(one, other), _pump(other, one))


def protocols(request: web.Request) -> list[str]:
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    return [name.strip() for name in offered if name.strip()]


def is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def is_stream(request: web.Request) -> bool:
    return is_websocket(request) or FOLLOWS.search(request.query_string) is not None


def end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers that do not belong to one connection or a websocket's handshake."""
    handshake = "sec-websocket-"
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in HOP_BY_HOP and not name.lower().startswith(handshake)
    )


async def _pump(source: WebSocket, target: WebSocket) -> None:
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await target.send_bytes(message.data)


def _abort_unread(response: aiohttp.ClientResponse) -> None:
    """Abort a stream that was cut: a clean close could outlive the event loop."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
