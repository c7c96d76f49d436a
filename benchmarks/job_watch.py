"""When each Job of a namespace was created, as a watch shows it.

A Job's own creationTimestamp has whole seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx

from localnode.errors import SetupError
from tests.support.kube import Kube, Object, path

WATCH_SECONDS = 7200
#: Without spec and status, which a Job's events repeat.
METADATA = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
ADDED, ERROR = '{"type":"ADDED"', '{"type":"ERROR"'


class JobWatch:
    """The Jobs of a namespace, and the time of this process when the line of each had arrived:
    never too early."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str]] = []
        self._ended = False
        self._changed = asyncio.Event()

    async def follow(self, kube: Kube, namespace: str) -> None:
        """Record every new Job, in one watch after another: the API server ends one that is slow to
        read, too."""
        last = ""
        try:
            while not last.startswith(ERROR):
                last = await self._watch(kube, namespace, since=_version(last)) or last
        finally:
            self._ended = True
            self._changed.set()

    async def _watch(self, kube: Kube, namespace: str, *, since: str) -> str:
        """Record the Jobs of one watch; return its last line."""
        query = {"watch": "true", "timeoutSeconds": str(WATCH_SECONDS), "resourceVersion": since}
        jobs, line = path("jobs", namespace), ""
        async with kube.http.stream(
            "GET", jobs, params=query, headers=METADATA, timeout=None
        ) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith(ADDED):
                    self.seen.append((time.time(), line))
                    self._changed.set()
        return line

    async def first(self, run_id: str) -> float:
        """Wait for the run's Job, and return when it was first seen."""
        while (found := self._find(run_id)) is None:
            await self._change()
        return found

    async def count(self, jobs: int) -> list[float]:
        """Wait for this number of Jobs, and return when each was seen, in that order."""
        while len(self.seen) < jobs:
            await self._change()
        return [seen for seen, _ in self.seen[:jobs]]

    def newest(self, count: int) -> list[Object]:
        """Return the metadata of the newest Jobs, as they were when they were created."""
        return [json.loads(line)["object"]["metadata"] for _, line in self.seen[-count:]]

    async def _change(self) -> None:
        if self._ended:
            raise SetupError("the watch of Jobs ended: the API server is gone or restarted")
        self._changed.clear()
        await self._changed.wait()

    def _find(self, run_id: str) -> float | None:
        """A Job has the id of its run in several places."""
        return next((seen for seen, line in reversed(self.seen) if run_id in line), None)


def _version(line: str) -> str:
    """Return the resourceVersion of a watch's line; without a line, that of the beginning."""
    return str(json.loads(line)["object"]["metadata"]["resourceVersion"]) if line else ""


@asynccontextmanager
async def watch_jobs(kube: Kube, namespace: str) -> AsyncIterator[JobWatch]:
    """Follow the namespace's Jobs inside the context."""
    jobs = JobWatch()
    watch = asyncio.create_task(jobs.follow(kube, namespace))
    try:
        yield jobs
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await watch
