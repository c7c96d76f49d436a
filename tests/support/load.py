"""Runs that are created one after the other, and the times of their claims."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import httpx

from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi

EVERY_SECONDS = 0.25
BEFORE = 4  # runs, before whatever happens under the load
AFTER_SECONDS = 1


@dataclass
class Load:
    """The runs so far."""

    api: PrefectApi
    deployment_id: str
    runs: list[Object] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def on(cls, api: PrefectApi, deployment_id: str) -> AsyncIterator[Self]:
        """Create runs until the context ends, and for a second more."""
        load = cls(api, deployment_id)
        ending = asyncio.Event()  # a cancelled request may create a run that is not counted
        task = asyncio.create_task(load._create(ending))
        try:
            await poll(load._count, until=lambda count: count >= BEFORE)
            yield load
            await asyncio.sleep(AFTER_SECONDS)
        finally:
            ending.set()
            await task

    async def longest_gap(self) -> float:
        """Wait until every run has its Job; return the longest time between two claims. Fail if a
        run was claimed twice."""
        claims = []
        for run in self.runs:
            await self.api.wait(run["id"], until=lambda it: bool(it["infrastructure_pid"]))
            states = await self.api.states(run["id"])
            [claim] = [state for state in states if state["name"] == "Pending"]
            claims.append(datetime.fromisoformat(claim["timestamp"]))
        gaps = (after - before for before, after in itertools.pairwise(sorted(claims)))
        return max(gap.total_seconds() for gap in gaps)

    async def _create(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            try:
                self.runs.append(await self.api.create_run(self.deployment_id))
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    raise  # 503: another writer has the SQLite database of the quickstart's server
            await asyncio.sleep(EVERY_SECONDS)

    async def _count(self) -> int:
        return len(self.runs)
