"""Follow one kind of object by label: list in pages, watch from there, list again when in doubt.

Promises: the cache equals the cluster again after any gap, because every full list replaces it; a
silent, cut or refused watch is noticed and re-opened with backoff; decoding never holds the loop
for more than one page. Decides nothing and writes nothing but its cache.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic import TypeAdapter

from workpool_operator.errors import KubernetesRefused, KubernetesUnavailable, OperatorError
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.client import KubernetesClient, Resource
from workpool_operator.kube.views import Page, Status, WatchEvent

log = logging.getLogger(__name__)

PAGE_SIZE = 100  # a page of 100 pods holds the loop for 14 ms, one of 500 for 51 ms
RELIST_SECONDS = 600.0
WATCH_SECONDS = 270
SILENCE_SECONDS = 75.0  # bookmarks come every 60 s: a longer silence is a dead connection
BACKOFF_SECONDS = (0.2, 10.0)  # a right that was granted shows within 15 s

Heard = Callable[[OperatorError | None], None]


class Reflector:
    """Keeps `cache` equal to the objects of `resource` in `namespace` that match `selector`.

    `heard(error)` is called with None after every successful list, and with the error that ended
    a list or a watch.
    """

    def __init__(
        self,
        client: KubernetesClient,
        resource: Resource,
        *,
        namespace: str,
        selector: str,
        cache: Cache[Any],
        heard: Heard,
    ) -> None:
        self._client = client
        self._path = resource.path(namespace)
        self._selector = selector
        self._cache = cache
        self._heard = heard
        view = resource.view  # known at run time only: mypy takes no variable for a type
        self._page: TypeAdapter[Page[Any]] = TypeAdapter(Page[view])  # type: ignore[valid-type]
        self._event: TypeAdapter[WatchEvent[Any]] = TypeAdapter(WatchEvent[view])  # type: ignore[valid-type]
        self._status: TypeAdapter[WatchEvent[Status]] = TypeAdapter(WatchEvent[Status])

    async def run(self) -> None:
        """Follow for ever."""
        delay, longest = BACKOFF_SECONDS
        while True:
            try:
                await self._follow()
                delay = BACKOFF_SECONDS[0]
                await asyncio.sleep(delay)  # a server that ends every watch at once is not hammered
            except (KubernetesUnavailable, KubernetesRefused) as error:
                self._heard(error)
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                delay = min(delay * 2, longest)

    async def _follow(self) -> None:
        """One full list, then watches until a relist is due or a version is too old."""
        version = await self._list()
        until = time.monotonic() + RELIST_SECONDS * random.uniform(0.9, 1.1)
        while version and time.monotonic() < until:
            version = await self._watch(version)
            await asyncio.sleep(0.1)

    async def _list(self) -> str:
        items: list[Any] = []
        query = {"labelSelector": self._selector, "limit": str(PAGE_SIZE)}
        while True:
            page = self._page.validate_json(
                await self._client.request("GET", self._path, query=query)
            )
            items.extend(page.items)
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        self._cache.replace(items)
        self._heard(None)
        return page.metadata.resource_version

    async def _watch(self, version: str) -> str:
        """Apply events until the server ends the watch; the version to go on from, "" to relist."""
        query = {
            "labelSelector": self._selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.9, 1.1))),
        }
        try:
            async with self._client.watch(self._path, query) as lines:
                while version and (line := await self._next(lines)):
                    version = self._apply(line)
                return version
        except KubernetesRefused as refused:
            if refused.status == 410:
                return ""
            raise

    async def _next(self, lines: AsyncIterator[bytes]) -> bytes | None:
        """The watch's next line; None at its end, or where it is silent for too long."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return await anext(lines, None)
        except TimeoutError:
            log.info("watch of %s was silent for %d s", self._path, SILENCE_SECONDS)
            return None

    def _apply(self, line: bytes) -> str:
        event = self._event.validate_json(line)
        if event.type == "ERROR":
            status = self._status.validate_json(line).object
            log.info("watch of %s ended: %s: listing again", self._path, status.message)
            return ""
        if event.type == "DELETED":
            self._cache.put(event.object)  # its last status, before it departs
            self._cache.remove(event.object.metadata.uid)
        elif event.type != "BOOKMARK":
            self._cache.put(event.object)
        return str(event.object.metadata.resource_version)
