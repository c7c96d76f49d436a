"""A reflector lists page by page, and lists again if the API server is busy or no longer has the
rest."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from tests.support.snapshots import job
from workpool_operator.errors import KubernetesGone, KubernetesUnavailable, OperatorError
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.cluster import Cache
from workpool_operator.kube.models import Job
from workpool_operator.kube.reflector import Reflector


class Watched:
    """An API server whose watches stay silent."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.watched = asyncio.Event()

    @asynccontextmanager
    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Any]:
        """Send no event."""

        async def lines() -> AsyncIterator[bytes]:
            self.watched.set()
            await asyncio.Event().wait()
            yield b""

        yield lines()


class ExpiringList(Watched):
    """It no longer has the second page of its first list."""

    async def request(self, method: str, path: str, *, query: Mapping[str, str]) -> bytes:
        """Answer with one page."""
        token = query.get("continue", "")
        self.pages.append(token)
        if token and self.pages.count(token) == 1:
            raise KubernetesGone("The provided continue parameter is too old")
        return page([], continue_="" if token else "page-2")


class Listed(Watched):
    """It lists the objects of `names`, two per page; `between(page)` is called before each page is
    sent."""

    def __init__(self, *names: str, between: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self._names = names
        self._between = between

    async def request(self, method: str, path: str, *, query: Mapping[str, str]) -> bytes:
        """Answer with one page."""
        start = int(query.get("continue", "0"))
        self._between(start // 2)
        end = start + 2
        more = str(end) if end < len(self._names) else ""
        return page([document(name) for name in self._names[start:end]], continue_=more)


def page(items: list[dict[str, Any]], *, continue_: str) -> bytes:
    metadata = {"resourceVersion": "7", "continue": continue_}
    return json.dumps({"metadata": metadata, "items": items}).encode()


def document(name: str, namespace: str = "data") -> dict[str, Any]:
    template = {"metadata": {"labels": job().spec.template.labels}}
    metadata = {"name": name, "uid": name, "namespace": namespace, "resourceVersion": "3"}
    return {"metadata": metadata, "spec": {"template": template}}


def cached(name: str, namespace: str = "data") -> Job:
    return JOBS.read(json.dumps(document(name, namespace)).encode())


async def follow(server: Watched, cache: Cache[Job]) -> list[OperatorError | None]:
    """Follow until the watch is open; return what the reflector reported."""
    reported = list[OperatorError | None]()
    reflector = Reflector(
        cast("KubernetesClient", server),
        JOBS,
        namespace="data",
        selector="",
        cache=cache,
        followed=reported.append,
    )
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(5):
        await server.watched.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return reported


def uids(cache: Cache[Job]) -> set[str]:
    return {each.metadata.uid for each in cache}


async def test_a_list_whose_next_page_has_expired_begins_again_and_is_no_failure() -> None:
    server = ExpiringList()
    assert await follow(server, Cache(lambda _: None)) == [None]
    assert server.pages == ["", "page-2", "", "page-2"]


class BusyServer(Watched):
    """It asks once to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.asked_at: list[float] = []

    async def request(self, method: str, path: str, *, query: Mapping[str, str]) -> bytes:
        """Refuse the first list for its rate."""
        self.asked_at.append(time.monotonic())
        if len(self.asked_at) == 1:
            raise KubernetesUnavailable("too many requests", retry_after=self._seconds)
        return page([], continue_="")


async def test_a_list_is_repeated_only_at_the_time_that_the_api_server_names() -> None:
    server = BusyServer(0.7)
    await follow(server, Cache(lambda _: None))
    first, second = server.asked_at
    assert second - first >= 0.7


async def test_a_list_is_applied_page_by_page_and_removes_what_it_lacks() -> None:
    cache: Cache[Job] = Cache(lambda _: None)
    for name in ("gone", "b", "gone-too"):
        cache.put(cached(name))
    cache.put(cached("elsewhere", namespace="other"))
    seen: list[set[str]] = []
    server = Listed("a", "b", "c", "d", between=lambda _: seen.append(uids(cache)))
    assert await follow(server, cache) == [None]
    assert seen[1] - seen[0] == {"a"}
    assert uids(cache) == {"a", "b", "c", "d", "elsewhere"}
    assert {each.name for each in cache.tombstones(cached("a").run_id)} == {"gone", "gone-too"}


async def test_an_object_that_is_created_during_a_list_is_kept() -> None:
    """The list is older than the object: only the watch that follows it shows whether it exists."""
    cache: Cache[Job] = Cache(lambda _: None)

    def create(number: int) -> None:
        if number == 1:
            cache.put_if_newer(cached("new"))

    await follow(Listed("a", "b", "c", between=create), cache)
    assert uids(cache) == {"a", "b", "c", "new"}


async def test_a_full_list_reports_only_what_changed() -> None:
    changes: list[str] = []
    cache: Cache[Job] = Cache(changes.append)
    for name in ("a", "gone"):
        cache.put(cached(name))
    changes.clear()
    await follow(Listed("a", "b", "c"), cache)
    assert len(changes) == 3  # b and c are new, one is gone
