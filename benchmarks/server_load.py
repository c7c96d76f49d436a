"""What a flow run costs a Prefect server, and which of it a setting of the server lowers.

`python -m benchmarks.server_load` starts a server on PostgreSQL for each variant, takes runs
through the calls that the operator and a flow's process make, and prints for each run: the CPU time
of the server and of PostgreSQL, SQL statements, and bytes in the database. It needs no cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

from pydantic import TypeAdapter
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from benchmarks.processes import Machine
from testbed.postgres import USER, program
from testbed.prefect_server import PrefectServer
from tests.corpus import pods
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi
from workpool_operator.jobs.pod_event import pod_event, read_phase
from workpool_operator.kube.models import Pod

_pod = TypeAdapter(Pod)

RUNS = 200
COUNTED_RUNS = 20  # of which the statements are logged, not timed
AT_A_TIME = 8
IDLE_SECONDS = 8.0
POD_EVENTS = 50  # in one request
SETTLE_SECONDS = 4.0  # the services write events in batches, every few seconds


@dataclass(frozen=True)
class Variant:
    """A server with other settings, or with clients that listen to its events."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    subscriptions: int = 0


def without(*names: str) -> dict[str, str]:
    return {f"PREFECT_SERVER_{name}": "false" for name in names}


EVENTS = "EVENTS_STREAM_OUT_ENABLED"
PERSISTER = "SERVICES_EVENT_PERSISTER_ENABLED"
TRIGGERS = "SERVICES_TRIGGERS_ENABLED"
RECORDER = "SERVICES_TASK_RUN_RECORDER_ENABLED"
VARIANTS = (
    Variant("as installed"),
    Variant("and 1 event subscription", subscriptions=1),
    Variant("and 100 event subscriptions", subscriptions=100),
    Variant("no event stream", without(EVENTS)),
    Variant("events not stored", without(PERSISTER)),
    Variant("no automations", without(TRIGGERS)),
    Variant("none of the three", without(EVENTS, PERSISTER, TRIGGERS)),
    Variant(
        "none of the three, no task run recorder", without(EVENTS, PERSISTER, TRIGGERS, RECORDER)
    ),
)


@dataclass(frozen=True)
class Cost:
    """Of one run."""

    server_seconds: float
    database_seconds: float
    statements: float
    bytes: float

    def row(self, name: str) -> str:
        return (
            f"| {name} | {self.server_seconds * 1000:.1f} ms "
            f"| {self.database_seconds * 1000:.1f} ms | {self.statements:.0f} "
            f"| {self.bytes / 1024:.1f} KiB |"
        )


HEAD = (
    "| Prefect server | its CPU per run | PostgreSQL's CPU per run | SQL statements | stored |\n"
    "|---|---|---|---|---|"
)


async def measure(variant: Variant, folder: Path, *, runs: int) -> tuple[Cost, Counter[str]]:
    """Return the cost of a run, and its SQL statements by kind and table."""
    with PrefectServer(folder, settings=variant.settings) as server:
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(PrefectApi(server.url))
            for _ in range(variant.subscriptions):
                await stack.enter_async_context(subscription(server.url))
            life = await Life.of(api)
            await life.of_runs(AT_A_TIME)  # the first ones read what is read once
            await asyncio.sleep(SETTLE_SECONDS)
            idle = await _used(server, asyncio.sleep(IDLE_SECONDS))
            size = _size(server)
            busy = await _used(server, life.of_runs(runs))
            stored = (_size(server) - size) / runs
            statements = await _statements(server, life)
    seconds = [
        (total - rate / idle[2] * busy[2]) / runs
        for total, rate in zip(busy[:2], idle[:2], strict=True)
    ]
    total = sum(statements.values())
    return Cost(seconds[0], seconds[1], total, stored), statements


async def _some_at_a_time(send: Callable[[int], Awaitable[object]], number: int) -> None:
    for first in range(0, number, AT_A_TIME):
        indices = range(first, min(first + AT_A_TIME, number))
        await asyncio.gather(*map(send, indices))


async def _used(server: PrefectServer, work: Awaitable[None]) -> tuple[float, float, float]:
    """Return the CPU seconds of server and database during the work, and its duration."""
    machine, began = Machine({"server": server.pid}), time.monotonic()
    before = machine.usage()
    await work
    await asyncio.sleep(SETTLE_SECONDS)
    used = (machine.usage() - before).cpu_seconds
    return used["server"], used["PostgreSQL"], time.monotonic() - began


class Life:
    """The requests of a run from creation to end, without its log and its tasks."""

    def __init__(self, api: PrefectApi, pool: str, deployment: str) -> None:
        self._api = api
        self._pool = pool
        self._deployment = deployment

    @classmethod
    async def of(cls, api: PrefectApi) -> Life:
        pool = await api.create_pool(f"load-{uuid.uuid4().hex[:8]}")
        deployment = await api.create_deployment(flow="load", name="load", pool=pool["name"])
        return cls(api, pool["name"], deployment["id"])

    async def of_runs(self, number: int) -> None:
        """Take that many runs through their life, some at a time."""
        for first in range(0, number, AT_A_TIME):
            batch = min(AT_A_TIME, number - first)
            await asyncio.gather(*(self._api.create_run(self._deployment) for _ in range(batch)))
            found = await self._poll(batch)
            await asyncio.gather(*(self._run(each["flow_run"]["id"]) for each in found))

    def requests(self, number: int) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return each kind of request, to send in this order, `number` of each."""
        api, runs = self._api, list[str]()
        due = f"/work_pools/{self._pool}/get_scheduled_flow_runs"

        async def create(_: int) -> None:
            runs.append((await api.create_run(self._deployment))["id"])

        def on_run(send: Callable[[str], Awaitable[object]]) -> Callable[[int], Awaitable[object]]:
            return lambda index: send(runs[index])

        async def record(index: int) -> None:
            await api.request("POST", "/events", _events(index))
            if index == number - 1:  # the server stores them afterwards, in small batches
                await poll(
                    lambda: api.one("POST", "/events/filter", _ask(index)),
                    until=lambda page: len(page["events"]) == POD_EVENTS,
                    seconds=120,
                )

        kinds: dict[str, Callable[[int], Awaitable[object]]] = {
            "poll, nothing due": lambda _: api.many("POST", due, {"limit": 10}),
            "heartbeat": lambda _: api.request(
                "POST", f"/work_pools/{self._pool}/workers/heartbeat", {"name": "load"}
            ),
            "read the pool": lambda _: api.read_pool(self._pool),
            "list its queues": lambda _: api.many(
                "POST", f"/work_pools/{self._pool}/queues/filter", {}
            ),
            "create a run": create,
            "poll, 10 runs due": lambda _: api.many("POST", due, {"limit": 10}),
            "claim": on_run(lambda run: api.set_state(run, "PENDING")),
            "record the pid": on_run(lambda run: api.update_run(run, infrastructure_pid="data:j")),
            "read a run": on_run(api.read_run),
            "state RUNNING": on_run(lambda run: api.set_state(run, "RUNNING")),
            "state COMPLETED": on_run(lambda run: api.set_state(run, "COMPLETED")),
            "record 50 pod events": record,
            "ask for 50 pod events": lambda index: api.one("POST", "/events/filter", _ask(index)),
        }
        return {name: partial(_some_at_a_time, send, number) for name, send in kinds.items()}

    async def _poll(self, limit: int) -> list[Object]:
        path = f"/work_pools/{self._pool}/get_scheduled_flow_runs"
        found = await self._api.many("POST", path, {"limit": limit})
        body = {"deployments": {"id": {"any_": [self._deployment]}}}
        await self._api.many("POST", "/deployments/filter", body)
        return found

    async def _run(self, run_id: str) -> None:
        api = self._api
        await api.set_state(run_id, "PENDING")
        await api.update_run(run_id, infrastructure_pid=f"data:job-{run_id}")
        await api.read_run(run_id)  # the flow's process
        await api.set_state(run_id, "RUNNING")
        await api.set_state(run_id, "COMPLETED")
        await api.read_run(run_id)  # the operator, at the end


def _events(index: int) -> list[Object]:
    """Return the events of 50 pods that run."""
    made = []
    for number in range(POD_EVENTS):
        pod = _pod.validate_python(
            pods.pod("Running", pods.running(), uid=str(UUID(int=1000 * index + number)))
        )
        phase = read_phase(pod)
        now = datetime.now(UTC)
        made.append(pod_event(pod, phase, at=now, follows=None, worker_type="kubernetes"))
    return made


def _ask(index: int) -> Object:
    """Return the question which of these events are recorded."""
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    ids = [event["id"] for event in _events(index)]
    return {"filter": {"id": {"id": ids}, "occurred": {"since": since}}, "limit": POD_EVENTS}


async def measure_requests(
    folder: Path, *, runs: int, only: Sequence[str] = ()
) -> dict[str, tuple[float, float, float]]:
    """Return the CPU milliseconds of server and database that each kind of request takes, and the
    KiB that it adds to the database."""
    with PrefectServer(folder) as server:
        async with PrefectApi(server.url) as api:
            life = await Life.of(api)
            await life.of_runs(AT_A_TIME)
            await asyncio.sleep(SETTLE_SECONDS)
            idle = await _used(server, asyncio.sleep(IDLE_SECONDS))
            taken = {}
            for name, send in life.requests(runs).items():
                if only and not any(text in name for text in only):
                    continue
                size = _size(server)
                used = await _used(server, send())
                taken[name] = (
                    (used[0] - idle[0] / idle[2] * used[2]) / runs * 1000,
                    (used[1] - idle[1] / idle[2] * used[2]) / runs * 1000,
                    (_size(server) - size) / runs / 1024,
                )
    return taken


@asynccontextmanager
async def subscription(url: str) -> AsyncIterator[None]:
    """Listen to the state changes of another pool's runs, as each binding does."""
    address = url.replace("http", "ws", 1) + "/events/out"
    async with connect(address, subprotocols=[Subprotocol("prefect")], open_timeout=30) as socket:
        await socket.send(json.dumps({"type": "auth", "token": None}))
        await socket.recv()
        chosen = {
            "event": {"prefix": ["prefect.flow-run."]},
            "any_resource": {"id": [f"prefect.work-pool.{uuid.uuid4()}"]},
        }
        await socket.send(json.dumps({"type": "filter", "filter": chosen}))
        yield


async def _statements(server: PrefectServer, life: Life) -> Counter[str]:
    """Return the SQL statements of one run by kind and table, from PostgreSQL's log."""
    _sql(server, "ALTER SYSTEM SET log_statement = 'all'")
    _sql(server, "SELECT pg_reload_conf()")
    await asyncio.sleep(1)
    logs = server.database.log
    begin = logs.stat().st_size
    await asyncio.sleep(IDLE_SECONDS)
    middle, began = logs.stat().st_size, time.monotonic()
    await life.of_runs(COUNTED_RUNS)
    await asyncio.sleep(SETTLE_SECONDS)
    seconds = time.monotonic() - began
    text = logs.read_bytes()
    busy, idle = _kinds(text[middle:].decode()), _kinds(text[begin:middle].decode())
    per_run = Counter[str]()
    for kind, number in busy.items():
        own = number - idle[kind] / IDLE_SECONDS * seconds
        per_run[kind] = round(own / COUNTED_RUNS)
    return +per_run


_ENTRY = re.compile(
    r"LOG:  (?:statement|execute [^:]+):\s+(.*?)(?=^\d{4}-\d\d-\d\d |\Z)", re.M | re.S
)
_TABLE = re.compile(r"\b(?:FROM|INTO|^UPDATE) (\w+)", re.M)


def _kinds(log: str) -> Counter[str]:
    kinds = Counter[str]()
    for entry in _ENTRY.findall(log):
        verb, table = entry.split(None, 1)[0].upper().rstrip(";"), _TABLE.search(entry)
        kinds[f"{verb} {table[1]}" if table else verb] += 1
    return kinds


def _size(server: PrefectServer) -> int:
    return int(_sql(server, f"SELECT pg_database_size('{USER}')"))


def _sql(server: PrefectServer, statement: str) -> str:
    place = ["-h", "127.0.0.1", "-p", str(server.database.port), "-U", USER, "-d", USER]
    return subprocess.check_output([program("psql"), *place, "-Atqc", statement], text=True).strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_load")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of variants, from 0")
    parser.add_argument(
        "--requests",
        nargs="*",
        metavar="TEXT",
        help="measure each kind of request, or those whose name has a text",
    )
    options = parser.parse_args()
    if options.requests is not None:
        with tempfile.TemporaryDirectory(prefix="server-load-") as folder:
            taken = asyncio.run(
                measure_requests(Path(folder), runs=options.runs, only=options.requests)
            )
        print("| request | CPU of the server | CPU of PostgreSQL | stored |\n|---|---|---|---|")
        for name, (ours, database, stored) in taken.items():
            print(f"| {name} | {ours:.1f} ms | {database:.1f} ms | {stored:.1f} KiB |")
        return
    chosen = options.only or range(len(VARIANTS))
    rows = [HEAD]
    for variant in (VARIANTS[number] for number in chosen):
        with tempfile.TemporaryDirectory(prefix="server-load-") as folder:
            cost, statements = asyncio.run(measure(variant, Path(folder), runs=options.runs))
        rows.append(cost.row(variant.name))
        print(variant.name, dict(statements.most_common()), file=sys.stderr, flush=True)
    print("\n".join(rows))


if __name__ == "__main__":
    main()
