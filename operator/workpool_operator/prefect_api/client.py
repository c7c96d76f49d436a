"""Sends the operator's requests to Prefect's REST API, through a PrefectClient with explicit
credentials.

No request is sent twice (`transport`). Every failure is a PrefectUnavailable or a PrefectRefused. A
proposed state returns the server's answer as data: Prefect's exceptions `Abort` and `Pause` are
never raised.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.settings import (
    PREFECT_CLIENT_CUSTOM_HEADERS,
    get_current_settings,
    temporary_settings,
)
from pydantic import TypeAdapter, ValidationError

from workpool_operator import connection_errors
from workpool_operator.clock import SYSTEM_CLOCK, Clock, ServerClock
from workpool_operator.errors import (
    PrefectForbidden,
    PrefectNotFound,
    PrefectRedirects,
    PrefectRefused,
    PrefectUnauthorized,
    PrefectUnavailable,
)
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.models import (
    Run,
    SetStateResult,
    State,
    Worker,
    WorkPool,
    WorkQueue,
)
from workpool_operator.prefect_api.proxies import proxy_of
from workpool_operator.prefect_api.retry_after import RetryAfter
from workpool_operator.prefect_api.transport import OnceTransport

RUN_NOT_FOUND = "Flow run not found"  # the body of Prefect's own 404
PAGE_SIZE = 200  # the server's limit for polls and filters
REQUEST_TIMEOUT_SECONDS = 15.0
# The server closes connections that were idle for 5 s, which is also httpx's default. A request on
# a connection that is just being closed is lost, and is not sent again.
LIMITS = httpx.Limits(max_connections=16, keepalive_expiry=3.0)

T = TypeVar("T")

_REFUSALS = {401: PrefectUnauthorized, 403: PrefectForbidden, 404: PrefectNotFound}
_NOT_PREFECT = "this is not the answer of a Prefect API"
_UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError, ValidationError, RecursionError)

_answer = TypeAdapter(SetStateResult)
_objects = TypeAdapter(list[dict[str, Any]])  # an empty mapping must not read as "no runs"
_states = TypeAdapter(list[State])
_queues = TypeAdapter(list[WorkQueue])
_workers = TypeAdapter(list[Worker])


class PrefectApi:
    """Requests one work pool and its runs on one server; use it as an async context manager."""

    def __init__(self, server: PrefectEndpoint, *, pool: str, clock: Clock = SYSTEM_CLOCK) -> None:
        """
        Raises:
            OperatorError: the environment names a proxy that cannot be used.
        """
        self.server = server
        self.pool = pool
        self.clock = ServerClock(f"the Prefect server at {server.address}", clock=clock)
        self.client = _client(server)
        # The client types the path as one of its own routes, but accepts any.
        self._send: Callable[..., Awaitable[httpx.Response]] = self.client.request
        self._retry_after = RetryAfter(clock=self.clock)
        self._pool_path = f"/work_pools/{quote(pool, safe='')}"

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.__aexit__(None, None, None)

    # The pool

    async def version(self) -> str:
        """Return the server's version, such as `3.8.8`."""
        return str(await self.request("GET", "/admin/version"))

    async def work_pool(self) -> WorkPool:
        """Read the pool."""
        return await self._read(WorkPool.of, "GET", self._pool_path)

    async def work_queues(self) -> list[WorkQueue]:
        """List the pool's work queues."""
        path = f"{self._pool_path}/queues/filter"
        return await self._read(_queues.validate_python, "POST", path)

    async def workers(self) -> list[Worker]:
        """Return at most 200 workers of the pool, as they last reported themselves."""
        path = f"{self._pool_path}/workers/filter"
        return await self._read(_workers.validate_python, "POST", path, {"limit": PAGE_SIZE})

    async def heartbeat(self, worker: str, *, every_seconds: float) -> None:
        """Send the worker's heartbeat."""
        body = {"name": worker, "heartbeat_interval_seconds": int(every_seconds)}
        await self.request("POST", f"{self._pool_path}/workers/heartbeat", body)

    async def delete_worker(self, worker: str) -> None:
        """Delete the worker from the pool."""
        await self.request("DELETE", f"{self._pool_path}/workers/{quote(worker, safe='')}")

    # Flow runs

    async def poll(
        self, *, queues: Sequence[str], before: datetime, limit: int = PAGE_SIZE
    ) -> list[Run]:
        """Return at most `limit` scheduled runs by queue priority, then by time: always the same
        ones first."""
        body: dict[str, Any] = {"scheduled_before": before.isoformat(), "limit": limit}
        if queues:
            body["work_queue_names"] = list(queues)
        path = f"{self._pool_path}/get_scheduled_flow_runs"
        return await self._read(_polled, "POST", path, body)

    async def read_run(self, run_id: UUID) -> Run | None:
        """Return the run, or None if Prefect answers that it does not exist.

        Raises:
            PrefectUnavailable: another 404, for example from a gateway.
        """
        try:
            return await self._read(Run.of, "GET", f"/flow_runs/{run_id}")
        except PrefectNotFound as refused:
            if RUN_NOT_FOUND in str(refused):
                return None
            raise PrefectUnavailable(str(refused)) from refused

    async def filter_runs(self, body: dict[str, Any]) -> list[Run]:
        """Return one page of `POST /flow_runs/filter`."""
        whole = {"limit": PAGE_SIZE, **body}
        return await self._read(_runs, "POST", "/flow_runs/filter", whole)

    async def count_runs(self, filters: dict[str, Any]) -> int:
        """Return the number of flow runs that match the filters."""
        return await self._read(int, "POST", "/flow_runs/count", filters)

    async def history(self, run_id: UUID) -> list[State]:
        """Return every state that the run has had, oldest first."""
        path = f"/flow_run_states/?flow_run_id={run_id}"
        states = await self._read(_states.validate_python, "GET", path)
        return sorted(
            states, key=lambda state: state.timestamp.timestamp() if state.timestamp else 0
        )

    async def set_state(self, run_id: UUID, state: dict[str, Any]) -> SetStateResult:
        """Propose a state, without force; return the server's answer, which may be a rejection."""
        details = {**state.get("state_details", {}), "flow_run_id": str(run_id)}
        body = {"state": {**state, "state_details": details}, "force": False}
        path = f"/flow_runs/{run_id}/set_state"
        return await self._read(_answer.validate_python, "POST", path, body)

    async def update_run(self, run_id: UUID, changes: dict[str, Any]) -> None:
        """Change fields of a flow run."""
        await self.request("PATCH", f"/flow_runs/{run_id}", changes)

    async def renew_lease(self, lease_id: UUID, *, seconds: int) -> None:
        """Renew a concurrency lease."""
        path = f"/v2/concurrency_limits/leases/{lease_id}/renew"
        await self.request("POST", path, {"lease_duration": seconds})

    async def deployments(self, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        """Read deployments by id; missing ones are left out."""
        return await self._by_id("deployments", ids)

    async def flows(self, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        """Read flows by id; missing ones are left out."""
        return await self._by_id("flows", ids)

    async def write_logs(self, entries: list[dict[str, Any]]) -> None:
        """Write entries to the logs of flow runs."""
        await self.request("POST", "/logs/", entries)

    async def _by_id(self, kind: str, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        wanted = sorted(str(id_) for id_ in ids)
        body = {kind: {"id": {"any_": wanted}}, "limit": PAGE_SIZE}
        return await self._read(_ids, "POST", f"/{kind}/filter", body) if wanted else {}

    async def _read(self, view: Callable[[Any], T], method: str, path: str, body: Any = None) -> T:
        """Send one request and return the answer, decoded by `view`.

        Raises:
            PrefectRefused: also if the answer is not Prefect's, but a gateway's page, for example.
        """
        answer = await self.request(method, path, body)
        try:
            return view(answer)
        except (ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:
            text = f"{method} {path}: {_NOT_PREFECT}{_mismatch(error)}"
            raise PrefectRefused(text, status=200) from error

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request and return the JSON of the answer; None if it is empty.

        Raises:
            PrefectRefused: 4xx except for 408 and 429, or not an answer of Prefect's.
            PrefectThrottled: 429, or before the time that an earlier answer named.
            PrefectUnavailable: no answer, 408, 5xx, or a 404 of something else than Prefect.
        """
        self._retry_after.check(path)
        try:
            return await self._request(method, path, body)
        except PrefectUnavailable as error:
            self._retry_after.note(path, error)
            raise

    async def _request(self, method: str, path: str, body: Any) -> Any:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                response = await self._send(method, path, json=body)
        except httpx.HTTPStatusError as error:
            raise _error(error, self.server) from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise PrefectUnavailable(
                f"{method} {path}: {connection_errors.explain(error)}"
            ) from error
        except _UNREADABLE as error:  # the CSRF token, which the client requests first
            raise PrefectRefused(f"{method} {path}: {_NOT_PREFECT}", status=200) from error
        except (httpx.InvalidURL, ValueError) as error:  # their text may quote a header
            text = f"{method} {path}: the request cannot be sent ({type(error).__name__})"
            raise PrefectRefused(text, status=0) from error
        self.clock.observe(response.headers.get("Date"))
        try:
            return response.json() if response.content else None
        except _UNREADABLE as error:
            kind = response.headers.get("Content-Type")
            text = f"{method} {path}: {_NOT_PREFECT} ({kind} without JSON)"
            raise PrefectRefused(text, status=response.status_code) from error


def _runs(answer: Any) -> list[Run]:
    return [Run.of(document) for document in _objects.validate_python(answer)]


def _polled(answer: Any) -> list[Run]:
    return [Run.of(item["flow_run"]) for item in _objects.validate_python(answer)]


def _ids(answer: Any) -> dict[UUID, dict[str, Any]]:
    return {UUID(document["id"]): document for document in _objects.validate_python(answer)}


def _mismatch(error: Exception) -> str:
    """Return the path of the first mismatch and what was expected, without the value."""
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f" ({'.'.join(map(str, first['loc']))}: {first['msg']})"


def _client(server: PrefectEndpoint) -> PrefectClient:
    """Return a client with the headers of `server`, and without those of the user's Prefect
    settings."""
    proxy, verify = proxy_of(server.url), server.trust.context()
    transport = OnceTransport(verify=verify, limits=LIMITS, proxy=proxy.url if proxy else None)
    with _without_headers_of_the_user():
        return PrefectClient(
            server.url,
            api_key=server.api_key,
            auth_string=server.auth_string,
            httpx_settings={
                "transport": transport,
                "verify": verify,
                "headers": dict(server.headers),
                "timeout": httpx.Timeout(REQUEST_TIMEOUT_SECONDS),
                "follow_redirects": False,
            },
        )


def _without_headers_of_the_user() -> AbstractContextManager[object]:
    """Return a context without custom headers in Prefect's settings: its client would send them to
    any server."""
    if not get_current_settings().client.custom_headers:
        return nullcontext()
    return temporary_settings(restore_defaults={PREFECT_CLIENT_CUSTOM_HEADERS})


def _error(
    error: httpx.HTTPStatusError, server: PrefectEndpoint
) -> PrefectRefused | PrefectUnavailable:
    """Return the typed error. It quotes only a Prefect API: another page may repeat the request."""
    response = error.response
    text = f"{response.request.method} {response.request.url.path}: HTTP {response.status_code}"
    if response.is_redirect:
        return _redirect(response, server, text)
    reason = _prefect_reason(response)
    text = server.redacted(f"{text} {reason or ''}".rstrip())
    if response.status_code >= 500 or (response.status_code == 404 and reason is None):
        return PrefectUnavailable(text)
    kind = _REFUSALS.get(response.status_code, PrefectRefused)
    return kind(text, status=response.status_code)


def _prefect_reason(response: httpx.Response) -> str | None:
    """Return the reason in an answer of a Prefect API; None if something else answered, for example
    an ingress without a route to the server, whose 404 has a page, text or other JSON."""
    try:
        body = response.json()
    except ValueError:
        return None
    if not isinstance(body, dict) or body.keys().isdisjoint(("detail", "exception_message")):
        return None
    reason = body.get("detail") or body.get("exception_message")
    return " ".join(reason.split())[:300] if isinstance(reason, str) else ""


def _redirect(response: httpx.Response, server: PrefectEndpoint, text: str) -> PrefectRedirects:
    target = response.request.url.join(response.headers["Location"])
    base = target.copy_with(query=None, fragment=None, userinfo=b"")
    requested = response.request.url.path.removeprefix(httpx.URL(server.url).path.rstrip("/"))
    is_api = base.path.endswith(requested)
    path = base.path.removesuffix(requested) if is_api else "/"
    to = str(base.copy_with(path=path)).rstrip("/")
    return PrefectRedirects(f"{text}, to {to}", status=response.status_code, to=to, is_api=is_api)
