"""Reads and writes what the operator needs of Prefect's REST API.

No write is sent twice (`transport`). Every failure is a PrefectUnavailable or a PrefectRefused. A
proposed state returns the server's answer as data: Prefect's exceptions `Abort` and `Pause` are
never raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from pydantic import TypeAdapter, ValidationError

from workpool_operator.clock import SYSTEM_CLOCK, Clock, ServerClock
from workpool_operator.errors import (
    PrefectNotFound,
    PrefectRefused,
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
from workpool_operator.prefect_api.retry_after import RetryAfter
from workpool_operator.prefect_api.transport import NOT_PREFECT, ClientTransport, Transport
from workpool_operator.request_observer import RequestObserver, ignore
from workpool_operator.slices import batches

RUN_NOT_FOUND = "Flow run not found"  # the body of Prefect's own 404
PAGE_SIZE = 200  # the server's limit for polls and filters
MOST_OBJECTS = 10_000  # of one list that is read page by page

T = TypeVar("T")

_answer = TypeAdapter(SetStateResult)
_objects = TypeAdapter(list[dict[str, Any]])  # an empty mapping must not read as "no runs"
_states = TypeAdapter(list[State])
_queues = TypeAdapter(list[WorkQueue])
_workers = TypeAdapter(list[Worker])


class PrefectApi:
    """Requests one work pool and its runs on one server; use it as an async context manager."""

    def __init__(
        self,
        server: PrefectEndpoint,
        *,
        pool: str,
        clock: Clock = SYSTEM_CLOCK,
        requested: RequestObserver = ignore,
    ) -> None:
        """
        Raises:
            OperatorError: the environment names a proxy that cannot be used.
        """
        self.server = server
        self.pool = pool
        self.clock = ServerClock(f"the Prefect server at {server.address}", clock=clock)
        self._retry_after = RetryAfter(clock=self.clock)
        self._transport = Transport(server, clock=self.clock, requested=requested)
        # For Prefect's own functions, which read blocks and variables with it.
        self.client = PrefectClient(
            server.url,
            httpx_settings={
                "transport": ClientTransport(self._transport, url=server.url),
                "verify": server.trust.context(),
                "follow_redirects": False,
            },
        )
        self._pool_path = f"/work_pools/{quote(pool, safe='')}"

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.__aexit__(None, None, None)
        await self._transport.__aexit__()

    # The pool

    async def version(self) -> str:
        """Return the server's version, such as `3.8.8`."""
        return str(await self.request("GET", "/admin/version"))

    async def work_pool(self) -> WorkPool:
        """Read the pool."""
        return await self._read(WorkPool.of, "GET", self._pool_path)

    async def create_work_pool(self, *, type_: str, base_job_template: dict[str, Any]) -> None:
        """Create the pool.

        Raises:
            PrefectConflict: it exists.
        """
        body = {"name": self.pool, "type": type_, "base_job_template": base_job_template}
        await self.request("POST", "/work_pools/", body)

    async def update_work_pool(self, **fields: Any) -> None:
        """Change fields of the pool."""
        await self.request("PATCH", self._pool_path, fields)

    async def work_queues(self) -> list[WorkQueue]:
        """List the pool's work queues."""
        path = f"{self._pool_path}/queues/filter"
        return await self._read_pages(_queues.validate_python, path)

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

    async def update_run_labels(self, run_id: UUID, labels: dict[str, str]) -> None:
        """Set these labels of a flow run; the others stay."""
        await self.request("PATCH", f"/flow_runs/{run_id}/labels", labels)

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

    async def filter(self, kind: str, *, most: int = MOST_OBJECTS) -> list[dict[str, Any]]:
        """Return every object of a kind, such as `deployments`; of many only the first `most`."""
        return await self._read_pages(_objects.validate_python, f"/{kind}/filter", most=most)

    async def write_logs(self, entries: list[dict[str, Any]]) -> None:
        """Write entries to the logs of flow runs."""
        await self.request("POST", "/logs/", entries)

    async def write_events(self, events: list[dict[str, Any]]) -> None:
        """Record events."""
        await self.request("POST", "/events", events)

    async def existing_events(self, ids: Sequence[UUID], *, since: datetime) -> frozenset[UUID]:
        """Return which of at most 50 events are recorded, if they occurred after `since`."""
        until = self.clock.now() + timedelta(days=1)  # the clock of the events can be ahead
        occurred = {"since": since.isoformat(), "until": until.isoformat()}
        body = {
            "filter": {"id": {"id": [str(id_) for id_ in ids]}, "occurred": occurred},
            "limit": len(ids),
        }
        return await self._read(_event_ids, "POST", "/events/filter", body)

    async def _by_id(self, kind: str, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        wanted = sorted(str(id_) for id_ in ids)
        found: dict[UUID, dict[str, Any]] = {}
        for batch in batches(wanted, PAGE_SIZE):
            body = {kind: {"id": {"any_": batch}}, "limit": PAGE_SIZE}
            found |= await self._read(_ids, "POST", f"/{kind}/filter", body)
        return found

    async def _read_pages(
        self, view: Callable[[Any], list[T]], path: str, *, most: int = MOST_OBJECTS
    ) -> list[T]:
        """Read one page after another of `POST path`."""
        found: list[T] = []
        while len(found) < most:
            body = {"limit": PAGE_SIZE, "offset": len(found)}
            page = await self._read(view, "POST", path, body)
            found += page
            if len(page) < PAGE_SIZE:
                break
        return found[:most]

    async def _read(self, view: Callable[[Any], T], method: str, path: str, body: Any = None) -> T:
        """Send one request and return the answer, decoded by `view`.

        Raises:
            PrefectRefused: also if the answer is not Prefect's, but a gateway's page, for example.
        """
        answer = await self.request(method, path, body)
        try:
            return view(answer)
        except (ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:
            text = f"{method} {path}: {NOT_PREFECT}{_mismatch(error)}"
            raise PrefectRefused(text, status=200) from error

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request and return the JSON of the answer; None if it is empty.

        Raises:
            PrefectThrottled: before the time that an earlier answer named.
            PrefectRefused, PrefectUnavailable: see `Transport.request`.
        """
        self._retry_after.check(path)
        try:
            return await self._transport.request(method, path, body)
        except PrefectUnavailable as error:
            self._retry_after.note(path, error)
            raise


def _runs(answer: Any) -> list[Run]:
    return [Run.of(document) for document in _objects.validate_python(answer)]


def _polled(answer: Any) -> list[Run]:
    return [Run.of(item["flow_run"]) for item in _objects.validate_python(answer)]


def _event_ids(answer: Any) -> frozenset[UUID]:
    return frozenset(UUID(event["id"]) for event in answer["events"])


def _ids(answer: Any) -> dict[UUID, dict[str, Any]]:
    return {UUID(document["id"]): document for document in _objects.validate_python(answer)}


def _mismatch(error: Exception) -> str:
    """Return the path of the first mismatch and what was expected, without the value."""
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f" ({'.'.join(map(str, first['loc']))}: {first['msg']})"
