"""No answer of a server, or of a gateway in front of it, raises anything but an OperatorError."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from workpool_operator.errors import PrefectRefused
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

RUN = UUID(int=1)
CALLS: dict[str, Callable[[PrefectApi], Awaitable[Any]]] = {
    "work_pool": lambda api: api.work_pool(),
    "work_queues": lambda api: api.work_queues(),
    "poll": lambda api: api.poll(queues=(), before=datetime.now(UTC)),
    "read_run": lambda api: api.read_run(RUN),
    "filter_runs": lambda api: api.filter_runs({}),
    "count_runs": lambda api: api.count_runs({}),
    "history": lambda api: api.history(RUN),
    "set_state": lambda api: api.set_state(RUN, {"type": "PENDING"}),
    "deployments": lambda api: api.deployments([RUN]),
    "filter": lambda api: api.filter("automations"),
    "flows": lambda api: api.flows([RUN]),
}
FOREIGN = {
    "nothing": b"",
    "null": b"null",
    "an empty mapping": b"{}",
    "a mapping of something else": b'{"status": "maintenance"}',
    "a list of something else": b'[{"status": "maintenance"}]',
    "a list of strings": b'["maintenance"]',
    "not JSON": b"<html></html>",
    "too deep": b"[" * 100_000,
    "not UTF-8": b"\xff\xfe",
}


@asynccontextmanager
async def answering(body: bytes) -> AsyncIterator[PrefectApi]:
    """A client of a server that answers every request with this body."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
        await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
        start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(start + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        api = PrefectApi(PrefectEndpoint(f"http://127.0.0.1:{port}/api"), pool="p")
        async with api:
            yield api


@pytest.mark.parametrize("kind", FOREIGN)
async def test_an_answer_that_is_not_prefects_counts_as_refused(kind: str) -> None:
    """Also an empty mapping: read as an empty list, it would mean that no run exists any more."""
    async with answering(FOREIGN[kind]) as api:
        for call in CALLS.values():
            with pytest.raises(PrefectRefused, match="not the answer of a Prefect API"):
                await call(api)


async def test_a_mismatch_names_the_field_and_never_the_value() -> None:
    body = json.dumps({"id": "hunter2", "name": "p", "type": "kubernetes"}).encode()
    async with answering(body) as api:
        with pytest.raises(PrefectRefused, match=r"work_pools/p.*\(id: .*UUID") as refused:
            await api.work_pool()
    assert "hunter2" not in str(refused.value)
