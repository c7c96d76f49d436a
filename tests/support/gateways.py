"""What can be between an operator and a Prefect server: an access proxy, and Prefect Cloud.

Both forward to the real server, and apply rules as every fault proxy does.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from typing import Any, Self
from uuid import uuid4

import aiohttp
from aiohttp import web

from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.fault_proxy.forwarder import is_websocket, join


class AccessProxy(FaultProxy):
    """Answers 403 to requests without the headers, on a page that repeats what was sent."""

    def __init__(
        self,
        upstream: Endpoint,
        *,
        headers: Mapping[str, str],
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(upstream, host=host, tls=tls)
        self._wanted = headers
        self.refused: list[str] = []

    def require(self, headers: Mapping[str, str]) -> None:
        self._wanted = headers

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if any(request.headers.get(name) != value for name, value in self._wanted.items()):
            self.refused.append(f"{request.method} {request.path}")
            refusal = {"detail": f"no entry with {dict(request.headers)}"}
            return web.json_response(refusal, status=403)
        return await super()._serve(request)


class Cloud(FaultProxy):
    """Behaves as Prefect Cloud: a bearer token, the address of a workspace, no `/admin` pages, and
    an event stream that is opened by a frame with the token."""

    def __init__(
        self,
        upstream: Endpoint,
        *,
        key: str,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(upstream, host=host, tls=tls)
        self._upstream = upstream.url
        self._key = key
        self.account, self.workspace = str(uuid4()), str(uuid4())
        self._workspace = f"/api/accounts/{self.account}/workspaces/{self.workspace}"

    def __enter__(self) -> Self:
        super().__enter__()
        self.api = self.url
        self.url = self.url.removesuffix("/api") + self._workspace
        return self

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith(f"{self._workspace}/"):
            return web.json_response({"detail": "Not Found"}, status=404)
        path = request.path.removeprefix(self._workspace)
        if path.startswith("/admin"):
            return web.json_response({"detail": "Not Found"}, status=404)
        if is_websocket(request) and path == "/events/out":
            return await self._events(request)
        if request.headers.get("Authorization", "").lower() != f"bearer {self._key}".lower():
            return web.json_response({"detail": "Invalid authentication credentials"}, status=401)
        if is_websocket(request):
            return await _events_in(request)
        query = f"?{request.query_string}" if request.query_string else ""
        raw = re.sub(r"\?.*", "", request.raw_path).removeprefix(self._workspace)
        return await super()._serve(request.clone(rel_url=f"/api{raw}{query}"))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Forward the server's event stream to clients that send the token."""
        client = web.WebSocketResponse(protocols=["prefect"])
        await client.prepare(request)
        frame: dict[str, Any] = json.loads(await client.receive_str())
        if frame != {"type": "auth", "token": self._key}:
            await client.close(code=1008, message=b"invalid token")
            return client
        address = f"{self._upstream}/events/out"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, protocols=["prefect"]) as server,
        ):
            await server.send_json({"type": "auth", "token": None})
            await client.send_str(await server.receive_str())
            await join(server, client)
        return client


async def _events_in(request: web.Request) -> web.StreamResponse:
    """Accept the events that pods emit, and answer nothing, as Prefect Cloud does."""
    client = web.WebSocketResponse()
    await client.prepare(request)
    async for _ in client:
        pass
    return client
