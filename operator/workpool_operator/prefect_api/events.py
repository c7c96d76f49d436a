"""Wake-ups from Prefect's event stream.

An event says that something may have changed, nothing more: a poll or a read decides. The stream
may be refused, cut or drop events (256 are kept per subscriber) without any harm but latency.
Prefect's own subscriber takes its credentials from global settings, so this one is ours
(races.md 21): sub-protocol `prefect`, then an auth frame with the raw auth string or the API key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from workpool_operator.prefect_api.client import Server

log = logging.getLogger(__name__)

# A start or a pending state needs nobody: the pod itself reports the one, we set the other.
STATE_TYPES = ["SCHEDULED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
BACKOFF_SECONDS = (0.5, 30.0)
REFUSED_RETRY_SECONDS = 300.0

Wake = Callable[[UUID, str], None]
Connected = Callable[[bool], None]


class EventStream:
    """Calls `wake(run_id, state_type)` per state change of the pool's runs, and
    `connected(bool)` whenever the stream opens or is lost."""

    def __init__(
        self,
        server: Server,
        *,
        pool_id: UUID,
        tls: ssl.SSLContext,
        wake: Wake,
        connected: Connected,
    ) -> None:
        self._server = server
        self._url = server.url.replace("http", "ws", 1).rstrip("/") + "/events/out"
        self._tls = tls if self._url.startswith("wss") else None
        self._filter = _filter(pool_id)
        self._wake = wake
        self._connected = connected

    async def run(self) -> None:
        """Listen for ever."""
        delay, longest = BACKOFF_SECONDS
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._listen()
            except InvalidStatus as error:
                if error.response.status_code < 500:  # more is a server that restarts
                    log.info("event stream refused (%s): polling only", error)
                    delay = REFUSED_RETRY_SECONDS
            except (OSError, WebSocketException, InvalidHandshake, TimeoutError) as error:
                log.debug("event stream lost: %s", error)
            self._connected(False)
            if asyncio.get_running_loop().time() - started > longest:
                delay = BACKOFF_SECONDS[0]
            await asyncio.sleep(delay)
            delay = min(delay * 2, max(longest, delay))

    async def _listen(self) -> None:
        async with connect(
            self._url, subprotocols=[Subprotocol("prefect")], ssl=self._tls, open_timeout=10
        ) as socket:
            await self._authenticate(socket)
            await socket.send(json.dumps({"type": "filter", "filter": self._filter}))
            self._connected(True)
            async for frame in socket:
                self._hear(json.loads(frame))

    async def _authenticate(self, socket: ClientConnection) -> None:
        token = self._server.api_key or self._server.auth_string
        await socket.send(json.dumps({"type": "auth", "token": token}))
        async with asyncio.timeout(10):
            answer = json.loads(await socket.recv())
        if answer.get("type") != "auth_success":
            raise InvalidHandshake(str(answer.get("reason") or "authentication failed"))

    def _hear(self, frame: dict[str, Any]) -> None:
        resource = frame.get("event", {}).get("resource", {})
        kind, _, run_id = str(resource.get("prefect.resource.id", "")).rpartition(".")
        if kind == "prefect.flow-run":
            self._wake(UUID(run_id), str(resource.get("prefect.state-type", "")))


def _filter(pool_id: UUID) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "occurred": {
            "since": now.isoformat(),
            "until": (now + timedelta(days=365)).isoformat(),
        },
        "event": {"prefix": ["prefect.flow-run."]},
        "any_resource": {"id": [f"prefect.work-pool.{pool_id}"]},
        "resource": {"labels": {"prefect.state-type": STATE_TYPES}},
    }
