"""Listens to Prefect's event stream and reports which runs may have changed.

An event is only a reason to poll or to read a run. If the stream is refused, breaks, sends other
frames or drops events (the server keeps 256 per subscriber), only latency suffers. Prefect's own
subscriber takes its credentials from global settings; this one takes them from the endpoint
(docs/races.md, 21). Protocol: the sub-protocol `prefect`, then an auth frame with the auth string
or the API key.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import prefect
from prefect.client.constants import SERVER_API_VERSION
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from workpool_operator import connection_errors
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.proxies import proxy_of

log = logging.getLogger(__name__)

# Without RUNNING, which pods show too, and PENDING, which the operator proposes itself.
STATE_TYPES = ["SCHEDULED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED"]
BACKOFF_SECONDS = (0.5, 30.0)
REFUSED_RETRY_SECONDS = 300.0
TEMPORARY = frozenset({408, 425, 429})  # and 5xx: the server restarts, or is busy

Connected = Callable[[str | None], None]


@dataclass(frozen=True, slots=True)
class StateChange:
    """A new state of a flow run; `state_id` is the id of the state. What an event does not name is
    None."""

    run_id: UUID
    state_type: str
    state_name: str = ""
    state_id: UUID | None = None
    deployment_id: UUID | None = None
    queue: str | None = None  # the name of the run's work queue


class Refused(Exception):
    """The server, or a gateway in front of it, refuses the stream. If that lasts for a while, a
    retry will not help soon."""


class EventStream:
    """Listens to the state changes of a pool's runs.

    `changed` is called for each change. `connected(None)` is called when the stream opens,
    `connected(why)` when it is lost or does not open.
    """

    def __init__(
        self,
        server: PrefectEndpoint,
        *,
        pool_id: UUID,
        changed: Callable[[StateChange], None],
        connected: Connected,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._server = server
        self._url = server.url.replace("http", "ws", 1).rstrip("/") + "/events/out"
        self._filter = _filter(pool_id, now=clock.now())
        self._changed = changed
        self._connected = connected
        self._clock = clock

    async def run(self) -> None:
        """Listen until cancelled. An ingress that has no route for a moment refuses the stream,
        too: only a refusal that lasts delays the next attempt for long."""
        delay, longest = BACKOFF_SECONDS
        refused = False
        while True:
            started = self._clock.monotonic()
            was_refused, refused = refused, False
            try:
                await self._listen()
                why = "the server closed it"
            except Refused as error:
                why, refused = str(error), True
            except (OSError, WebSocketException, TimeoutError, ValueError) as error:
                why = connection_errors.explain(error)
            log.debug("event stream of %s: %s", self._server.address, why)
            self._connected(why)
            if refused != was_refused or self._clock.monotonic() - started > longest:
                delay = BACKOFF_SECONDS[0]
            lasts = refused and delay == longest
            await asyncio.sleep(REFUSED_RETRY_SECONDS if lasts else delay)
            delay = min(delay * 2, longest)

    async def _listen(self) -> None:
        try:
            socket = await _connect(self._server, self._url)
        except InvalidStatus as error:
            status = error.response.status_code
            if status >= 500 or status in TEMPORARY:
                raise
            raise Refused(f"HTTP {status}") from error
        async with socket:
            await self._authenticate(socket)
            await socket.send(json.dumps({"type": "filter", "filter": self._filter}))
            self._connected(None)
            async for frame in socket:
                if change := _state_change(frame):
                    self._changed(change)

    async def _authenticate(self, socket: ClientConnection) -> None:
        token = self._server.api_key or self._server.auth_string
        await socket.send(json.dumps({"type": "auth", "token": token}))
        async with asyncio.timeout(10):
            answer = _object(await socket.recv())
        if answer.get("type") != "auth_success":
            raise Refused("the server refuses the credentials for the event stream")


def _state_change(frame: str | bytes) -> StateChange | None:
    """Return the change that the frame reports; None if it reports none."""
    event = _object(frame).get("event")
    if not isinstance(event, dict) or not isinstance(resource := event.get("resource"), dict):
        return None
    if (run_id := _id_of("flow-run", resource)) is None:
        return None
    queue = _related(event, "work-queue").get("prefect.resource.name")
    return StateChange(
        run_id,
        state_type=str(resource.get("prefect.state-type", "")),
        state_name=str(resource.get("prefect.state-name", "")),
        state_id=_uuid(event.get("id")),
        deployment_id=_id_of("deployment", _related(event, "deployment")),
        queue=queue if isinstance(queue, str) else None,
    )


def _related(event: dict[str, Any], role: str) -> dict[str, Any]:
    """Return the event's related resource of the role; an empty one if there is none."""
    related = event.get("related")
    for each in related if isinstance(related, list) else ():
        if isinstance(each, dict) and each.get("prefect.resource.role") == role:
            return each
    return {}


def _id_of(kind: str, resource: dict[str, Any]) -> UUID | None:
    """Return the id of a resource of the kind; None if it is of another kind."""
    prefix, _, id_ = str(resource.get("prefect.resource.id", "")).rpartition(".")
    return _uuid(id_) if prefix == f"prefect.{kind}" else None


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


def _object(frame: str | bytes) -> dict[str, Any]:
    """Return the frame's JSON object; an empty one if it is anything else."""
    try:
        found = json.loads(frame)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class _Connect(connect):
    """Follows no redirect: it would send our headers to another server."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _connect(server: PrefectEndpoint, url: str) -> connect:
    """Return a connection that sends what Prefect's own clients send, and the server's headers."""
    proxy = proxy_of(url)
    headers = dict(server.headers)
    if server.auth_string:  # for a gateway that requires it before the auth frame can be sent
        token = base64.b64encode(server.auth_string.encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    return _Connect(
        url,
        subprotocols=[Subprotocol("prefect")],
        additional_headers=headers,
        user_agent_header=f"prefect/{prefect.__version__} (API {SERVER_API_VERSION})",
        proxy=proxy.url if proxy else None,
        ssl=server.trust.context() if url.startswith("wss") else None,
        open_timeout=10,
    )


def _filter(pool_id: UUID, *, now: datetime) -> dict[str, Any]:
    return {
        "occurred": {
            "since": now.isoformat(),
            "until": (now + timedelta(days=365)).isoformat(),
        },
        "event": {"prefix": ["prefect.flow-run."]},
        "any_resource": {"id": [f"prefect.work-pool.{pool_id}"]},
        "resource": {"labels": {"prefect.state-type": STATE_TYPES}},
    }
