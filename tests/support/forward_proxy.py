"""A real forward proxy, such as companies use: CONNECT, and requests with an absolute URL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.support.background_server import BackgroundServer, run_until_first, stop_accepting


class ForwardProxy(BackgroundServer):
    """`with ForwardProxy() as proxy: proxy.url`.

    `requests` has the first line of each request. `hosts` maps names that only the proxy resolves
    to addresses, which may have a port.
    """

    def __init__(self, hosts: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._hosts = dict(hosts or {})
        self.requests: list[str] = []
        self._open: set[asyncio.StreamWriter] = set()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        await stop_accepting(*self._server.sockets)
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side closed the connection, or the test has ended
        finally:
            self._open.discard(writer)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, headers = head.partition(b"\r\n")
        method, target, version = line.decode().split(" ")
        self.requests.append(f"{method} {target}")
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host = parts.hostname or ""
        known = urlsplit(f"//{self._hosts.get(host, host)}")
        port = known.port or parts.port or 80
        remote = await asyncio.open_connection(known.hostname, port)
        self._open.add(remote[1])
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:  # one request per connection: the next one can be for another server
                path = parts._replace(scheme="", netloc="").geturl()
                remote[1].write(f"{method} {path} {version}\r\n".encode())
                remote[1].write(b"Connection: close\r\n" + headers)
            await run_until_first(_pump(reader, remote[1]), _pump(remote[0], writer))
        finally:
            self._open.discard(remote[1])
            remote[1].close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
