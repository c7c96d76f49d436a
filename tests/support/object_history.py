"""Records every object of a kind that exists in a namespace, however briefly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.kube import Kube, Object, path
from tests.support.polling import poll


class ObjectHistory:
    """`async with ObjectHistory(kube, "jobs", namespace) as jobs: ...; len(jobs.seen) == 1`."""

    def __init__(self, kube: Kube, plural: str, namespace: str) -> None:
        self._kube = kube
        self._path = path(plural, namespace)
        self._last: dict[str, Object] = {}

    @property
    def seen(self) -> list[Object]:
        """The last version of each object, in the order of their creation."""
        return list(self._last.values())

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch(), name=f"history of {self._path}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def until(
        self, holds: Callable[[list[Object]], bool], *, seconds: float = 30
    ) -> list[Object]:
        """Return the objects once `holds(objects)` is true."""

        async def seen() -> list[Object]:
            assert not self._watching.done(), "the watch ended"
            return self.seen

        return await poll(seen, until=holds, seconds=seconds)

    async def _watch(self) -> None:
        query = {"watch": "true", "resourceVersion": "0"}
        async with self._kube.http.stream(
            "GET", self._path, params=query, timeout=None
        ) as response:
            async for line in response.aiter_lines():
                seen = json.loads(line)["object"]
                self._last[seen["metadata"]["uid"]] = seen
