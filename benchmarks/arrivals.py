"""When each Job was seen: by a watch, because a Job's own creationTimestamp has whole seconds.

The time is that of this process when the watch's line has arrived, so it is never too early.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx

from localnode.errors import SetupError
from tests.support.kube import Kube, path

WATCH_SECONDS = 7200


class Arrivals:
    """The Jobs of one namespace; a Job holds the id of its run in several places."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, str]] = []
        self._over = False
        self._changed = asyncio.Event()

    async def follow(self, kube: Kube, namespace: str) -> None:
        """Notes every line of the watch, as long as it lasts."""
        query: dict[str, Any] = {"watch": "true", "timeoutSeconds": WATCH_SECONDS}
        jobs = path("jobs", namespace)
        try:
            async with kube.http.stream("GET", jobs, params=query, timeout=None) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    self._seen.append((time.time(), line))
                    self._changed.set()
        finally:
            self._over = True
            self._changed.set()

    async def first(self, run_id: str) -> float:
        """The time at which the run's Job was first seen."""
        while (found := self._find(run_id)) is None:
            if self._over:
                raise SetupError("the watch of Jobs ended: the API server is gone or restarted")
            self._changed.clear()
            await self._changed.wait()
        return found

    def _find(self, run_id: str) -> float | None:
        return next((seen for seen, line in self._seen if run_id in line), None)


@asynccontextmanager
async def watched(kube: Kube, namespace: str) -> AsyncIterator[Arrivals]:
    """Follows the namespace's Jobs inside the context."""
    arrivals = Arrivals()
    watch = asyncio.create_task(arrivals.follow(kube, namespace))
    try:
        yield arrivals
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await watch
