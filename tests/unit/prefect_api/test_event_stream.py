"""The event stream reports changes; other frames and refusals only cost latency."""

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
from workpool_operator.prefect_api.events import EventStream, StateChange

RUN = UUID(int=7)
OTHER_FRAMES = [
    "",
    "not JSON",
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


def frame(run_id: UUID, state_name: str = "", **more: Any) -> str:
    about = {
        "prefect.resource.id": f"prefect.flow-run.{run_id}",
        "prefect.state-type": "SCHEDULED",
        "prefect.state-name": state_name,
    }
    return json.dumps({"type": "event", "event": {"resource": about, **more}})


class Listener:
    """An event stream of a server in the test, and what it reported."""

    def __init__(self) -> None:
        self.changes: list[StateChange] = []
        self.reports: list[str | None] = []
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
                changed=self.changes.append,
                connected=self.reports.append,
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
async def test_a_change_is_reported_with_the_runs_queue(related: object, queue: str | None) -> None:
    async def change(socket: ServerConnection) -> None:
        await authenticate(socket)
        await socket.send(frame(RUN, related=related))
        await socket.wait_closed()

    listener = Listener()

    async def woken() -> int:
        return len(listener.changes)

    async with listener.on(change):
        await poll(woken, until=bool)
    assert listener.changes == [StateChange(RUN, "SCHEDULED", queue=queue)]


async def test_a_change_is_reported_with_the_state_s_id_and_name_and_the_deployment() -> None:
    state_id, deployment = UUID(int=8), UUID(int=9)
    related = [
        {
            "prefect.resource.role": "deployment",
            "prefect.resource.id": f"prefect.deployment.{deployment}",
        }
    ]

    async def change(socket: ServerConnection) -> None:
        await authenticate(socket)
        await socket.send(frame(RUN, state_name="Late", id=str(state_id), related=related))
        await socket.wait_closed()

    listener = Listener()

    async def count() -> int:
        return len(listener.changes)

    async with listener.on(change):
        await poll(count, until=bool)
    (seen,) = listener.changes
    assert (seen.state_name, seen.state_id, seen.deployment_id) == ("Late", state_id, deployment)


async def test_a_frame_that_is_not_an_event_is_skipped() -> None:
    async def other(socket: ServerConnection) -> None:
        await authenticate(socket)
        for text in OTHER_FRAMES:
            await socket.send(text)
        await socket.send(b"\xff")
        await socket.send(frame(RUN))
        await socket.wait_closed()

    listener = Listener()

    async def woken() -> int:
        return len(listener.changes)

    async with listener.on(other):
        await poll(woken, until=bool)
    assert listener.changes == [StateChange(RUN, "SCHEDULED")]
    assert listener.reports == [None]


async def test_a_refusal_that_lasts_delays_the_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "REFUSED_RETRY_SECONDS", 2.0)
    monkeypatch.setattr(events, "BACKOFF_SECONDS", (0.01, 0.02))

    async def lose(socket: ServerConnection) -> None:
        await authenticate(socket)

    listener = Listener()
    async with listener.on(lose, lambda attempt: HTTPStatus.FORBIDDEN if attempt < 3 else None):
        await listener.wait(5)
    first, second, third, *later = listener.attempts
    assert second - first < 2, "an ingress without a route for a moment refuses, too"
    assert third - second >= 2
    assert later[-1] - third < 2
    assert listener.reports[:4] == ["HTTP 403", "HTTP 403", None, "the server closed it"]


async def test_a_refusal_after_an_outage_is_tried_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An ingress answers 404 until it has a route to the server that has started."""
    monkeypatch.setattr(events, "BACKOFF_SECONDS", (0.01, 0.04))
    answers = [HTTPStatus.BAD_GATEWAY] * 5 + [HTTPStatus.NOT_FOUND]
    listener = Listener()
    async with listener.on(authenticate, lambda attempt: (*answers, *[None] * 9)[attempt - 1]):
        await listener.wait(7)
    assert listener.reports[4:7] == ["HTTP 502", "HTTP 404", None]


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY])
async def test_a_busy_server_is_tried_again_soon(
    status: HTTPStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BACKOFF_SECONDS", (0.01, 0.1))
    listener = Listener()
    async with listener.on(authenticate, lambda attempt: status):
        await listener.wait(3)
    assert listener.reports[0] == f"HTTP {status.value}"


@pytest.mark.parametrize(
    "answer", ["not JSON", "[]", '{"type": "auth_failure", "reason": "sesame"}']
)
async def test_refused_credentials_are_reported_without_the_servers_text(
    answer: str,
) -> None:
    async def refuse(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(answer)
        await socket.wait_closed()

    listener = Listener()

    async def reports() -> list[str | None]:
        return listener.reports

    async with listener.on(refuse):
        await poll(reports, until=bool)
    assert listener.reports == ["the server refuses the credentials for the event stream"]


async def test_an_invalid_address_is_reported_and_does_not_end_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "BACKOFF_SECONDS", (0.01, 0.1))
    reports: list[str | None] = []
    stream = EventStream(
        PrefectEndpoint("http://host:abc/api"),
        pool_id=UUID(int=1),
        changed=lambda _: None,
        connected=reports.append,
    )
    task = asyncio.create_task(stream.run())

    async def count() -> int:
        return len(reports)

    await poll(count, until=lambda it: it >= 2)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
