"""A TCP proxy before Prefect's API that records each HTTP request and changes no byte.

It costs about 0.1 ms of CPU time per request, a hundredth of what the server takes to answer a
claim: an HTTP proxy would cost as much as the contenders that it measures. It understands what
their clients send: HTTP/1.1, bodies with a Content-Length, one request at a time per connection.
After an upgrade, of a websocket, it only counts bytes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
UPGRADE = re.compile(rb"^upgrade:\s*websocket", re.IGNORECASE | re.MULTILINE)
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass(slots=True)
class Call:
    """One request; `began` and `ended` are seconds since the epoch, `status` is None until the
    answer begins. `sent` and `received` are bytes, with headers."""

    method: str
    path: str
    body: bytes
    began: float
    status: int | None = None
    ended: float | None = None
    sent: int = 0
    received: int = 0


class RecordingProxy:
    """`async with RecordingProxy(url) as proxy: proxy.url`; `calls` are the requests so far.

    Each of the `listeners` is called with a request when it arrives and when its answer begins.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._path = parts.path
        self.calls: list[Call] = []
        self.listeners: list[Callable[[Call], None]] = []
        self._connections: set[asyncio.Transport] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), self._upstream[0], 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}{self._path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for transport in tuple(self._connections):
            transport.abort()
        await self._server.wait_closed()

    def forget(self) -> None:
        """Drop the records so far."""
        self.calls.clear()

    def of(self, path_part: str) -> list[Call]:
        """Return the requests whose path contains the text, in the order of their arrival."""
        return [call for call in self.calls if path_part in call.path]

    async def connect(self, client: _Client) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: _Server(client), *self._upstream)
        return transport

    def opened(self, transport: asyncio.Transport) -> None:
        self._connections.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        self._connections.discard(transport)

    def arrived(self, call: Call) -> None:
        self.calls.append(call)
        self.report(call)

    def report(self, call: Call) -> None:
        for listener in tuple(self.listeners):
            listener(call)


class _Client(asyncio.Protocol):
    """The side of the contender: parses its requests."""

    def __init__(self, proxy: RecordingProxy) -> None:
        self._proxy = proxy
        self._buffer = b""
        self._needed = 0  # bytes of the request's body that have not arrived
        self._is_websocket = False
        self._server: asyncio.Transport | None = None
        self.call: Call | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._proxy.opened(transport)
        transport.pause_reading()
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            self._server = await self._proxy.connect(self)
        except OSError:
            self.transport.abort()
            return
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self._server is not None
        if self._is_websocket:
            if self.call is not None:
                self.call.sent += len(data)
        else:
            self._parse(data)
        self._server.write(data)

    def _parse(self, data: bytes) -> None:
        self._buffer += data
        if self.call is None or self.call.status is not None:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self.call, self._buffer = self._request(head), rest
        if len(self._buffer) == self._needed:
            self.call.body, self._buffer = self._buffer, b""
            self.call.sent += self._needed
            self._proxy.arrived(self.call)

    def _request(self, head: bytes) -> Call:
        method, target = head.split(b" ", 2)[:2]
        length = LENGTH.search(head)
        self._needed = int(length[1]) if length else 0
        self._is_websocket = UPGRADE.search(head) is not None
        path = target.decode("ascii").partition("?")[0]
        return Call(method.decode("ascii"), path, b"", time.time(), sent=len(head) + 4)

    def answered(self, data: bytes) -> None:
        """Pass on a part of an answer."""
        if self.call is not None:
            self.call.received += len(data)
            if self.call.status is None and (found := STATUS.match(data)):
                self.call.status = int(found[1])
                self.call.ended = time.time()
                self._proxy.report(self.call)
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._connecting.cancel()
        self._proxy.closed(self.transport)
        if self._server is not None:
            self._server.close()


class _Server(asyncio.Protocol):
    """The side of the server: passes on its answers."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.answered(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.transport.close()
