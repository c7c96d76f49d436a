"""What a reflector does if the API server is busy, or no longer has what a list continues from."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from workpool_operator.errors import KubernetesGone, KubernetesUnavailable, OperatorError
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.cluster import Cache
from workpool_operator.kube.reflector import Reflector


class ExpiringList:
    """An API server that no longer has the second page of its first list; its watches stay
    silent."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.watched = asyncio.Event()

    async def request(self, method: str, path: str, *, query: Mapping[str, str]) -> bytes:
        """Answer with one page."""
        token = query.get("continue", "")
        self.pages.append(token)
        if token and self.pages.count(token) == 1:
            raise KubernetesGone("The provided continue parameter is too old")
        metadata = {"resourceVersion": "7", "continue": "" if token else "page-2"}
        return json.dumps({"metadata": metadata, "items": []}).encode()

    @asynccontextmanager
    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Any]:
        """Send no event."""

        async def lines() -> AsyncIterator[bytes]:
            self.watched.set()
            await asyncio.Event().wait()
            yield b""

        yield lines()


async def test_a_list_whose_next_page_has_expired_begins_again_and_is_no_failure() -> None:
    server, reported = ExpiringList(), list[OperatorError | None]()
    reflector = Reflector(
        cast("KubernetesClient", server),
        JOBS,
        namespace="data",
        selector="",
        cache=Cache(lambda _: None),
        followed=reported.append,
    )
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(5):
        await server.watched.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert server.pages == ["", "page-2", "", "page-2"]
    assert reported == [None]


class BusyServer(ExpiringList):
    """An API server that asks once to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.asked_at: list[float] = []

    async def request(self, method: str, path: str, *, query: Mapping[str, str]) -> bytes:
        """Refuse the first list for its rate."""
        self.asked_at.append(time.monotonic())
        if len(self.asked_at) == 1:
            raise KubernetesUnavailable("too many requests", retry_after=self._seconds)
        return json.dumps({"metadata": {"resourceVersion": "7"}, "items": []}).encode()


async def test_a_list_is_repeated_only_at_the_time_that_the_api_server_names() -> None:
    server = BusyServer(0.7)
    reflector = Reflector(
        cast("KubernetesClient", server),
        JOBS,
        namespace="data",
        selector="",
        cache=Cache(lambda _: None),
        followed=lambda _: None,
    )
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(5):
        await server.watched.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    first, second = server.asked_at
    assert second - first >= 0.7
