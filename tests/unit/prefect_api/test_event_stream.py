"""The event stream wakes, and whatever it holds or refuses costs nothing but latency."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from uuid import UUID

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tests.support.polling import poll
from workpool_operator.prefect_api import events
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.events import EventStream

RUN = UUID(int=7)
ODD_FRAMES = [
    "",
    "no JSON",
    "null",
    "[]",
    '"text"',
    "{}",
    '{"event": null}',
    '{"event": {"resource": "text"}}',
    '{"event": {"resource": {"prefect.resource.id": "prefect.flow-run.nightly"}}}',
    '{"event": {"resource": {"prefect.resource.id": null}}}',
    "[" * 100_000,
]


def frame(run_id: UUID, **more: Any) -> str:
    about = {"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.state-type": "SCHEDULED"}
    return json.dumps({"type": "event", "event": {"resource": about, **more}})


class Listener:
    """A stream on a server of the test's, and what it told."""

    def __init__(self) -> None:
        self.woken: list[tuple[UUID, str, str | None]] = []
        self.told: list[str | None] = []
        self.attempts: list[float] = []

    @asynccontextmanager
    async def on(
        self,
        serve_one: Callable[[ServerConnection], Any],
        refuse: Callable[[int], HTTPStatus | None] = lambda attempt: None,
    ) -> AsyncIterator[None]:
        def admit(connection: ServerConnection, request: Request) -> Response | None:
            self.attempts.append(time.monotonic())
            status = refuse(len(self.attempts))
            return connection.respond(status, "no") if status else None

        async with serve(serve_one, "127.0.0.1", 0, process_request=admit) as server:
            port = server.sockets[0].getsockname()[1]
            stream = EventStream(
                PrefectEndpoint(f"http://127.0.0.1:{port}/api"),
                pool_id=UUID(int=1),
                wake=lambda *change: self.woken.append(change),
                connected=self.told.append,
            )
            task = asyncio.create_task(stream.run())
            yield
            assert not task.done(), task
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def wait(self, count: int) -> None:
        async def attempted() -> int:
            return len(self.attempts)

        await poll(attempted, until=lambda it: it >= count)


async def authenticate(socket: ServerConnection, answer: str = '{"type": "auth_success"}') -> None:
    await socket.recv()
    await socket.send(answer)
    await socket.recv()


@pytest.mark.parametrize(
    ("related", "queue"),
    [
        ([], None),
        (None, None),
        ([7, {"prefect.resource.role": "tag", "prefect.resource.name": "urgent"}], None),
        ([{"prefect.resource.role": "work-queue", "prefect.resource.name": "urgent"}], "urgent"),
        ([{"prefect.resource.role": "work-queue"}], None),
    ],
)
async def test_a_change_is_told_with_the_runs_queue(related: object, queue: str | None) -> None:
    async def change(socket: ServerConnection) -> None:
        await authenticate(socket)
        await socket.send(frame(RUN, related=related))
        await socket.wait_closed()

    listener = Listener()

    async def woken() -> int:
        return len(listener.woken)

    async with listener.on(change):
        await poll(woken, until=bool)
    assert listener.woken == [(RUN, "SCHEDULED", queue)]


async def test_a_frame_that_is_no_event_is_passed_over() -> None:
    async def odd(socket: ServerConnection) -> None:
        await authenticate(socket)
        for text in ODD_FRAMES:
            await socket.send(text)
        await socket.send(b"\xff")
        await socket.send(frame(RUN))
        await socket.wait_closed()

    listener = Listener()

    async def woken() -> int:
        return len(listener.woken)

    async with listener.on(odd):
        await poll(woken, until=bool)
    assert listener.woken == [(RUN, "SCHEDULED", None)]
    assert listener.told == [None]


async def test_after_a_refusal_only_the_next_attempt_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "REFUSED_RETRY_SECONDS", 2.0)
    monkeypatch.setattr(events, "BACKOFF_SECONDS", (0.01, 0.1))

    async def lose(socket: ServerConnection) -> None:
        await authenticate(socket)

    listener = Listener()
    async with listener.on(lose, lambda attempt: HTTPStatus.FORBIDDEN if attempt == 1 else None):
        await listener.wait(5)
    first, second, *later = listener.attempts
    assert second - first >= 2
    assert later[-1] - second < 2
    assert listener.told[:3] == ["HTTP 403", None, "the server ended it"]


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY])
async def test_a_server_that_is_busy_is_asked_again_soon(
    status: HTTPStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BACKOFF_SECONDS", (0.01, 0.1))
    listener = Listener()
    async with listener.on(authenticate, lambda attempt: status):
        await listener.wait(3)
    assert listener.told[0] == f"HTTP {status.value}"


@pytest.mark.parametrize(
    "answer", ["no JSON", "[]", '{"type": "auth_failure", "reason": "sesame"}']
)
async def test_credentials_that_the_stream_does_not_take_are_told_without_its_words(
    answer: str,
) -> None:
    async def refuse(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(answer)
        await socket.wait_closed()

    listener = Listener()

    async def told() -> list[str | None]:
        return listener.told

    async with listener.on(refuse):
        await poll(told, until=bool)
    assert listener.told == ["the server does not accept the credentials for it"]


async def test_an_address_that_is_none_is_told_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "BACKOFF_SECONDS", (0.01, 0.1))
    told: list[str | None] = []
    stream = EventStream(
        PrefectEndpoint("http://host:abc/api"),
        pool_id=UUID(int=1),
        wake=lambda *_: None,
        connected=told.append,
    )
    task = asyncio.create_task(stream.run())

    async def count() -> int:
        return len(told)

    await poll(count, until=lambda it: it >= 2)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
