"""Answers the calls of a binding as Prefect's API does, after a fixed delay: a server that is never
the bottleneck.

`python -m benchmarks.prefect_stub --port PORT --delay SECONDS --owner PID` serves until the process
PID ends. Every pool, of type kubernetes and with suspended Jobs unless `--job-spec` says otherwise,
exists as soon as it is named.
Runs are queued and ended, and calls are counted, by requests below `/stub`, which have no delay. It
knows no concurrency limits and keeps no history; it grants every state but a PENDING of the same
name. No test of a promise uses it: this project's tests run on real servers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID, uuid4, uuid5

import orjson
from aiohttp import web

from tests.support.prefect import Object, suspended_template

FLOW = UUID("6f6c0a7e-0000-4000-8000-000000000001")
FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
CSRF_DISABLED = {"detail": "CSRF protection is disabled."}
FILTERS = 10 * 2**20  # bytes: a filter may name thousands of runs

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Run:
    """A flow run; `document` is what the API returns of it, without its state."""

    document: Object
    state: Object
    encoded: bytes = b""

    def encode(self) -> bytes:
        """Return the run's JSON, which is kept until the run changes."""
        if not self.encoded:
            whole = {**self.document, "state": self.state}
            whole |= {"state_type": self.state["type"], "state_name": self.state["name"]}
            self.encoded = orjson.dumps(whole | {"state_id": self.state["id"]})
        return self.encoded

    def change(self, **fields: Any) -> None:
        self.document |= fields
        self.encoded = b""

    def enter(self, state: Object) -> None:
        self.state, self.encoded = state, b""


@dataclass(slots=True)
class Pool:
    """A work pool with one queue; `due` are the scheduled runs, the oldest first."""

    document: Object
    queue_id: str
    due: dict[str, Run] = field(default_factory=dict)
    streams: list[web.WebSocketResponse] = field(default_factory=list)


class Stub:
    """The state of the server, and its handlers."""

    def __init__(self, delay: float, job_spec: Object) -> None:
        self._delay = delay
        self._template = suspended_template()
        self._template["job_configuration"]["job_manifest"]["spec"] |= job_spec
        self._pools: dict[str, Pool] = {}
        self._runs: dict[str, Run] = {}
        self._calls: Counter[str] = Counter()
        self._recorded: list[float] = []
        self._claimed: list[float] = []

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._count_and_delay], client_max_size=FILTERS)
        pool = "/api/work_pools/{pool}"
        app.add_routes(
            [
                web.get("/api/health", _constant(True)),
                web.get("/api/admin/version", _constant("3.8.8")),
                web.get("/api/csrf-token", _constant(CSRF_DISABLED, status=422)),
                web.get("/api/events/out", self._stream),
                web.get(pool, self._read_pool),
                web.post(pool + "/queues/filter", self._queues),
                web.post(pool + "/workers/filter", _constant([])),
                web.post(pool + "/workers/heartbeat", _empty),
                web.delete(pool + "/workers/{worker}", _empty),
                web.post(pool + "/get_scheduled_flow_runs", self._poll),
                web.post("/api/flows/filter", _constant([_flow()])),
                web.post("/api/deployments/filter", self._deployments),
                web.post("/api/flow_runs/filter", self._filter),
                web.post("/api/flow_runs/count", self._count),
                web.get("/api/flow_runs/{run}", self._read_run),
                web.patch("/api/flow_runs/{run}", self._update_run),
                web.post("/api/flow_runs/{run}/set_state", self._set_state),
                web.get("/api/flow_run_states/", self._history),
                web.post("/api/logs/", _empty),
                web.post("/api/events", _empty),
                web.post("/api/events/filter", _constant({"events": []})),
                web.post("/stub/{pool}/runs", self._queue_runs),
                web.post("/stub/{pool}/states", self._enter_state),
                web.post("/stub/delay", self._set_delay),
                web.get("/stub/record", self._record),
            ]
        )
        return app

    @web.middleware
    async def _count_and_delay(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is None or resource.canonical.startswith("/stub"):
            return await handler(request)
        self._calls[f"{request.method} {resource.canonical.removeprefix('/api')}"] += 1
        await asyncio.sleep(self._delay)
        return await handler(request)

    # Pools

    def _pool(self, name: str) -> Pool:
        if name not in self._pools:
            self._pools[name] = Pool(_pool(name, self._template), queue_id=str(uuid4()))
        return self._pools[name]

    async def _read_pool(self, request: web.Request) -> web.Response:
        return _json(self._pool(request.match_info["pool"]).document)

    async def _queues(self, request: web.Request) -> web.Response:
        pool = self._pool(request.match_info["pool"])
        return _json([{"id": pool.queue_id, "name": "default", "priority": 1, "is_paused": False}])

    async def _deployments(self, request: web.Request) -> web.Response:
        wanted = (await _body(request))["deployments"]["id"]["any_"]
        return _json([_deployment(each) for each in wanted])

    # Runs

    async def _poll(self, request: web.Request) -> web.Response:
        body, pool = await _body(request), self._pool(request.match_info["pool"])
        ids = b'"work_pool_id":"%b","work_queue_id":"%b"' % (
            pool.document["id"].encode(),
            pool.queue_id.encode(),
        )
        page = islice(pool.due.values(), body.get("limit") or 200)
        items = [b'{%b,"flow_run":%b}' % (ids, run.encode()) for run in page]
        return _encoded(b"[" + b",".join(items) + b"]")

    async def _filter(self, request: web.Request) -> web.Response:
        body = await _body(request)
        begin, limit = body.get("offset") or 0, body.get("limit") or 200
        page = islice(self._matching(body), begin, begin + limit)
        return _encoded(b"[" + b",".join(run.encode() for run in page) + b"]")

    async def _count(self, request: web.Request) -> web.Response:
        return _json(sum(1 for _ in self._matching(await _body(request))))

    def _matching(self, body: Object) -> Iterator[Run]:
        """Return the runs that match the criteria that a binding uses."""
        wanted = body.get("flow_runs") or {}
        ids, types = wanted.get("id") or {}, (wanted.get("state") or {}).get("type") or {}
        if (wanted.get("start_time") or {}).get("is_null_") is False:
            return
        chosen = ids.get("any_")
        excluded = frozenset(ids.get("not_any_") or ())
        pools = ((body.get("work_pools") or {}).get("id") or {}).get("any_")
        queues = ((body.get("work_pool_queues") or {}).get("id") or {}).get("any_")
        for run_id in self._runs if chosen is None else chosen:
            run = self._runs.get(run_id)
            if (
                run is not None
                and run_id not in excluded
                and run.state["type"] in (types.get("any_") or (run.state["type"],))
                and (pools is None or run.document["work_pool_id"] in pools)
                and (queues is None or run.document["work_queue_id"] in queues)
            ):
                yield run

    async def _read_run(self, request: web.Request) -> web.Response:
        run = self._runs.get(request.match_info["run"])
        if run is None:
            return _json({"detail": "Flow run not found"}, status=404)
        return _encoded(run.encode())

    async def _update_run(self, request: web.Request) -> web.Response:
        changes = await _body(request)
        self._runs[request.match_info["run"]].change(**changes)
        if "infrastructure_pid" in changes:
            self._recorded.append(_now())
        return web.Response(status=204)

    async def _set_state(self, request: web.Request) -> web.Response:
        run_id = request.match_info["run"]
        run, proposed = self._runs[run_id], (await _body(request))["state"]
        is_claim = proposed["type"] == "PENDING" and run.state["type"] == "SCHEDULED"
        if (proposed["type"], proposed["name"]) == ("PENDING", run.state["name"]):
            details = {"type": "reject_details", "reason": "This run is in a PENDING state."}
            return _json({"status": "REJECT", "state": run.state, "details": details})
        due = run.state["state_details"].get("scheduled_time")
        run.enter(_state(proposed["type"], proposed, scheduled_time=due))
        if is_claim:
            self._claimed.append(_now())
        pool = self._pool(run.document["work_pool_name"])
        if run.state["type"] == "SCHEDULED":
            pool.due[run_id] = run
        else:
            pool.due.pop(run_id, None)
        details = {"type": "accept_details"}
        return _json({"status": "ACCEPT", "state": run.state, "details": details}, status=201)

    async def _history(self, request: web.Request) -> web.Response:
        return _json([self._runs[request.query["flow_run_id"]].state])

    # Events

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Send the state changes of the pool that the filter names."""
        socket = web.WebSocketResponse(protocols=["prefect"])
        await socket.prepare(request)
        await socket.receive_json()
        await socket.send_json({"type": "auth_success"})
        wanted = (await socket.receive_json())["filter"]["any_resource"]["id"][0]
        pool = next(
            pool
            for pool in self._pools.values()
            if wanted == f"prefect.work-pool.{pool.document['id']}"
        )
        pool.streams.append(socket)
        async for _ in socket:
            pass
        pool.streams.remove(socket)
        return socket

    async def _report(self, pool: Pool, run: Run) -> None:
        event = _event(run)
        for socket in tuple(pool.streams):
            await socket.send_str(event)

    # What the benchmark does

    async def _queue_runs(self, request: web.Request) -> web.Response:
        """Queue runs that are due now; return their ids."""
        name, count = request.match_info["pool"], (await _body(request))["count"]
        pool, ids = self._pool(name), []
        for _ in range(count):
            run = _run(pool)
            ids.append(run.document["id"])
            self._runs[ids[-1]] = pool.due[ids[-1]] = run
            await self._report(pool, run)
        return _json(ids)

    async def _enter_state(self, request: web.Request) -> web.Response:
        """Have the runs enter a state as their flows would; return how many there were."""
        pool, body = self._pool(request.match_info["pool"]), await _body(request)
        for run_id in body["ids"]:
            run = self._runs[run_id]
            run.enter(_state(body["type"], {}))
            await self._report(pool, run)
        return _json(len(body["ids"]))

    async def _set_delay(self, request: web.Request) -> web.Response:
        """Answer only after this number of seconds from now on."""
        self._delay = (await _body(request))["seconds"]
        return web.Response(status=204)

    async def _record(self, _: web.Request) -> web.Response:
        """Return when runs were claimed and recorded, and the number of calls so far."""
        recorded = {"claimed": self._claimed, "recorded": self._recorded}
        return _json({**recorded, "calls": self._calls})


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _json(value: Any, *, status: int = 200) -> web.Response:
    return _encoded(orjson.dumps(value), status=status)


def _encoded(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


async def _body(request: web.Request) -> Any:
    return orjson.loads(await request.read() or b"{}")


def _constant(value: Any, *, status: int = 200) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return _json(value, status=status)

    return answer


async def _empty(_: web.Request) -> web.Response:
    return web.Response(status=204)


# Documents with the fields that Prefect 3.8 returns


def _pool(name: str, template: Object) -> Object:
    return {
        "id": str(uuid4()),
        "name": name,
        "type": "kubernetes",
        "base_job_template": template,
        "is_paused": False,
        "concurrency_limit": None,
        "status": "READY",
        "default_queue_id": str(uuid4()),
    }


def _flow() -> Object:
    return {"id": str(FLOW), "name": "bench", "tags": [], "labels": {}}


def _deployment(id_: str) -> Object:
    return {
        "id": id_,
        "name": "bench",
        "flow_id": str(FLOW),
        "tags": [],
        "labels": {"prefect.flow.id": str(FLOW)},
        "parameters": {},
        "job_variables": {"env": {"BENCH": "1"}},
        "entrypoint": "flow.py:bench",
        "path": ".",
        "pull_steps": None,
        "work_queue_name": "default",
        "schedules": [],
        "parameter_openapi_schema": {"type": "object", "properties": {}},
    }


#: What is the same in every run.
_RUN: Object = {
    "flow_id": str(FLOW),
    "deployment_version": None,
    "flow_version": None,
    "idempotency_key": None,
    "work_queue_name": "default",
    "parameters": {},
    "context": {},
    "tags": [],
    "job_variables": {},
    "labels": {"prefect.flow.id": str(FLOW)},
    "parent_task_run_id": None,
    "empirical_policy": {
        "max_retries": 0,
        "retry_delay_seconds": 0.0,
        "retries": 0,
        "retry_delay": 0,
        "pause_keys": [],
        "resuming": False,
        "retry_type": None,
    },
    "run_count": 0,
    "start_time": None,
    "end_time": None,
    "total_run_time": 0.0,
    "estimated_run_time": 0.0,
    "estimated_start_time_delta": 0.0,
    "auto_scheduled": False,
    "infrastructure_document_id": None,
    "infrastructure_pid": None,
    "created_by": None,
}


def _run(pool: Pool) -> Run:
    id_, now = str(uuid4()), datetime.now(UTC).isoformat()
    document = _RUN | {
        "id": id_,
        "name": f"bench-{id_[:8]}",
        "created": now,
        "updated": now,
        "deployment_id": str(uuid5(FLOW, pool.document["name"])),
        "work_pool_id": pool.document["id"],
        "work_pool_name": pool.document["name"],
        "work_queue_id": pool.queue_id,
        "expected_start_time": now,
        "next_scheduled_start_time": now,
    }
    return Run(document, _state("SCHEDULED", {}, scheduled_time=now))


def _state(type_: str, proposed: Object, *, scheduled_time: str | None = None) -> Object:
    details = {"scheduled_time": scheduled_time, "transition_id": None, "pause_reschedule": False}
    return {
        "id": str(uuid4()),
        "type": type_,
        "name": proposed.get("name") or type_.capitalize(),
        "timestamp": datetime.now(UTC).isoformat(),
        "message": proposed.get("message"),
        "data": None,
        "state_details": details | (proposed.get("state_details") or {}),
    }


def _event(run: Run) -> str:
    """Return the frame that reports the run's state to those who listen."""
    document, state = run.document, run.state
    related = {
        "work-pool": (document["work_pool_id"], document["work_pool_name"]),
        "work-queue": (document["work_queue_id"], "default"),
        "flow": (document["flow_id"], "bench"),
        "deployment": (document["deployment_id"], "bench"),
    }
    event = {
        "id": str(uuid4()),
        "occurred": state["timestamp"],
        "event": f"prefect.flow-run.{state['name']}",
        "resource": {
            "prefect.resource.id": f"prefect.flow-run.{document['id']}",
            "prefect.resource.name": document["name"],
            "prefect.state-name": state["name"],
            "prefect.state-type": state["type"],
            "prefect.state-timestamp": state["timestamp"],
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.{role}.{id_}",
                "prefect.resource.role": role,
                "prefect.resource.name": name,
            }
            for role, (id_, name) in related.items()
        ],
        "payload": {"intended": {"from": None, "to": state["type"]}, "validated_state": state},
    }
    return orjson.dumps({"type": "event", "event": event}).decode()


async def serve(stub: Stub, port: int, owner: int) -> None:
    """Serve until the process `owner` ends."""
    runner = web.AppRunner(stub.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(os.pidfd_open(owner), ended.set)
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefect_stub")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.005, help="seconds before each answer")
    parser.add_argument("--owner", type=int, required=True, help="end when this pid ends")
    job_spec = "JSON: fields of the spec of each Job"
    parser.add_argument("--job-spec", type=orjson.loads, default={}, help=job_spec)
    options = parser.parse_args()
    asyncio.run(serve(Stub(options.delay, options.job_spec), options.port, options.owner))


if __name__ == "__main__":
    main()
