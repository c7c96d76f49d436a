"""A reverse proxy in front of a real API that records requests and makes chosen ones fail.

Requests that no rule matches pass unchanged; watches and websockets are not buffered. The proxy
listens on loopback or on a given address, with or without TLS, and adds the credentials of its
upstream to requests that have none.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import yaml
from aiohttp import WSCloseCode, web
from yarl import URL

from tests.support.background_server import BackgroundServer, stop_accepting
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy.forwarder import (
    Forwarder,
    end_to_end,
    is_stream,
    is_websocket,
    join,
    protocols,
)
from tests.support.fault_proxy.rules import Answer, Call, Dropped, Match, Rule


class FaultProxy(BackgroundServer):
    """`with FaultProxy(Endpoint(url)) as proxy: proxy.on("POST", "/set_state$").after().drop()`."""

    def __init__(
        self,
        upstream: Endpoint,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self._forwarder = Forwarder(upstream)
        self._host = host
        self._tls = tls
        self._calls: list[Call] = []
        self._rules: list[Rule] = []
        self._open: dict[asyncio.Transport, Call] = {}
        self._offline = False

    # What tests use

    def on(self, method: str, path: str, *, query: str = "", body: str = "") -> Match:
        """Choose requests by method ("*": any) and regular expressions."""
        return Match(self._rules.append, method, path, query=query, body=body)

    def calls(self, path: str = "", *, method: str = "*") -> list[Call]:
        """Return the requests so far, in the order of their arrival."""
        match = Match(self._rules.append, method, path)
        return [call for call in list(self._calls) if match.covers(call)]

    def forget(self) -> None:
        """Drop all rules and records; open streams stay open."""
        for rule in self._rules:
            rule.release()
        self._rules.clear()
        self._calls.clear()

    def cut(self, path: str = "") -> None:
        """End the open watches and websockets whose path matches."""
        self._loop.call_soon_threadsafe(self._abort, path)

    @contextmanager
    def offline(self) -> Iterator[None]:
        """Simulate an outage: end open streams, and answer no request inside the context."""
        self._offline = True
        self.cut()
        try:
            yield
        finally:
            self._offline = False

    def write_kubeconfig(self, path: Path, *, token: str | None = None) -> Path:
        """Write a kubeconfig for the proxy; without a token it uses the upstream's credentials."""
        user = {"token": token} if token else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "proxy", "user": user}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # What runs on the thread

    async def _start(self) -> None:
        await self._forwarder.__aenter__()
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, auto_decompress=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        self._socket = socket.create_server((self._host, 0))
        await web.SockSite(self._runner, self._socket, ssl_context=self._tls).start()
        host, port = self._runner.addresses[0][:2]
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://{host}:{port}{URL(self._forwarder.endpoint.url).path.rstrip('/')}"

    async def _stop(self) -> None:
        await stop_accepting(self._socket)
        for site in tuple(self._runner.sites):
            await site.stop()
        self._abort("")
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()  # TLS would wait for the other side's close_notify
        await self._runner.cleanup()
        await self._forwarder.__aexit__()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._offline:
            return _hang_up(request)
        began = time.time()
        body = await request.read()
        call = Call(request.method, request.path, request.query_string, body, began)
        self._calls.append(call)
        try:
            if is_stream(request):
                return await self._handle(request, call)
            # Shielded: what was sent is carried out, whether or not its sender still waits.
            return await asyncio.shield(self._handle(request, call))
        except Dropped:
            return _hang_up(request)
        finally:
            call.seconds = time.time() - began

    async def _handle(self, request: web.Request, call: Call) -> web.StreamResponse:
        rules = [rule for rule in self._rules if rule.takes(call)]
        early = await _act(rules, call, answered=False)
        if early is not None:
            return _response(early, call)
        if is_websocket(request):
            return await self._bridge(request, call, rules)
        async with self._forwarder.forward(request, call.body) as response:
            if is_stream(request):
                return await self._stream(request, call, rules, response)
            headers = end_to_end(response.headers)
            answer = Answer(response.status, await response.read(), headers)
        return _response(await _act(rules, call, answered=True) or answer, call)

    async def _stream(
        self,
        request: web.Request,
        call: Call,
        rules: list[Rule],
        response: aiohttp.ClientResponse,
    ) -> web.StreamResponse:
        late = await _act(rules, call, answered=True)
        if late is not None:
            return _response(late, call)
        headers = end_to_end(response.headers)
        stream = web.StreamResponse(status=response.status, headers=headers)
        await stream.prepare(request)
        with self._opened(request, call, status=response.status):
            async for chunk in response.content.iter_any():
                await stream.write(chunk)
            await stream.write_eof()
        return stream

    async def _bridge(
        self, request: web.Request, call: Call, rules: list[Rule]
    ) -> web.StreamResponse:
        try:
            async with self._forwarder.connect(request) as server:
                late = await _act(rules, call, answered=True)
                if late is not None:
                    return _response(late, call)
                client = web.WebSocketResponse(protocols=protocols(request), max_msg_size=0)
                await client.prepare(request)
                with self._opened(request, call, status=101):
                    await join(server, client)
                await client.close(code=server.close_code or WSCloseCode.OK)
                return client
        except aiohttp.WSServerHandshakeError as refusal:
            return _response(Answer(refusal.status), call)

    @contextmanager
    def _opened(self, request: web.Request, call: Call, *, status: int) -> Iterator[None]:
        call.status = status
        transport = request.transport
        if transport is None:
            raise Dropped
        self._open[transport] = call
        try:
            yield
        finally:
            del self._open[transport]

    def _abort(self, path: str) -> None:
        for transport, call in list(self._open.items()):
            if re.search(path, call.path):
                transport.abort()


async def _act(rules: list[Rule], call: Call, *, answered: bool) -> Answer | None:
    """Apply the rules of this moment; return the last answer that one of them gives."""
    answer = None
    for rule in rules:
        if rule.match.answered == answered:
            answer = await rule.act(call) or answer
    return answer


def _response(answer: Answer, call: Call) -> web.Response:
    call.status = answer.status
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # written to a closed connection
