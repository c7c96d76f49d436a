"""Reads the due runs of a work pool in the order in which they are to be claimed: by the priority
of their queues, then by time.

A poll returns at most 200 runs, always the same ones first: if they cannot be claimed, all later
ones starve (docs/races.md, 6). Filters find what it hides. They ignore the limits of pool and
queues, so these are applied here, as a poll applies them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run, WorkPool, WorkQueue

UNLIMITED = float("inf")
#: What a poll counts against the limits of pool and queues.
ACTIVE = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}


class DueRuns:
    """The runs that are due before a time, in the pool's queues of these names (none: in all).

    One object serves one poll: it reads the pool and its queues at most once.
    """

    def __init__(self, prefect: PrefectApi, *, queues: Sequence[str], before: datetime) -> None:
        self._prefect = prefect
        self._names = queues
        self._before = before
        self._pool: WorkPool | None = None
        self._queues: list[WorkQueue] = []

    async def first(self, limit: int) -> list[Run]:
        """Return the first runs, within the limits of pool and queues."""
        return await self._prefect.poll(queues=self._names, before=self._before, limit=limit)

    async def count(self) -> int:
        """Return the number of due runs, whatever the limits."""
        where: dict[str, Any] = {"work_pools": {"name": {"any_": [self._prefect.pool]}}}
        if self._names:
            where["work_pool_queues"] = {"name": {"any_": list(self._names)}}
        return await self._prefect.count_runs({**where, "flow_runs": self._due()})

    async def is_limited(self) -> bool:
        """Return whether the pool or a queue has a concurrency limit, which can cut a poll."""
        pool, queues = await self._served()
        limits = [pool.concurrency_limit, *(queue.concurrency_limit for queue in queues)]
        return any(limit is not None for limit in limits)

    async def next(
        self,
        limit: int,
        *,
        known: Collection[UUID],
        full: Collection[UUID],
        offered: Sequence[Run],
    ) -> list[Run]:
        """Return the next runs that are not `known` and not of a `full` deployment. The `offered`
        runs are claimed first and count against the limits of pool and queues."""
        pool, queues = await self._served()
        in_pool = {"work_pools": {"id": {"any_": [str(pool.id)]}}}
        room = await self._room(pool.concurrency_limit, in_pool) - len(offered)
        in_queues = Counter(run.work_queue_id for run in offered)
        found: list[Run] = []
        for _, equals in groupby(queues, key=lambda queue: queue.priority):
            wanted = int(min(room, limit - len(found)))
            due: list[Run] = []
            for queue in equals:
                free = await self._room(queue.concurrency_limit, _in_queue(queue))
                most = int(min(wanted, free - in_queues[queue.id]))
                due += await self._in_queue(queue, most, known=known, full=full)
            due = _by_time(due)[: max(0, wanted)]
            found += due
            room -= len(due)
        return found

    async def _served(self) -> tuple[WorkPool, list[WorkQueue]]:
        """Return the pool, and its served queues by priority."""
        if self._pool is None:
            names, queues = self._names, await self._prefect.work_queues()
            served = [q for q in queues if not q.is_paused and (not names or q.name in names)]
            self._queues = sorted(served, key=lambda queue: queue.priority)
            self._pool = await self._prefect.work_pool()
        return self._pool, self._queues

    async def _room(self, limit: int | None, where: dict[str, Any]) -> float:
        if limit is None:
            return UNLIMITED
        return max(0, limit - await self._prefect.count_runs({**where, "flow_runs": ACTIVE}))

    async def _in_queue(
        self, queue: WorkQueue, limit: int, *, known: Collection[UUID], full: Collection[UUID]
    ) -> list[Run]:
        """Return the queue's next runs. A filter for deployments finds no run without one: these
        are read separately."""
        if limit <= 0:
            return []
        due = self._due(id={"not_any_": sorted(map(str, known))})
        if not full:
            return await self._filter(queue, limit, flow_runs=due)
        others = {"id": {"not_any_": sorted(map(str, full))}}
        found = await self._filter(queue, limit, flow_runs=due, deployments=others)
        without = {**due, "deployment_id": {"is_null_": True}}
        return _by_time(found + await self._filter(queue, limit, flow_runs=without))[:limit]

    async def _filter(self, queue: WorkQueue, limit: int, **filters: Any) -> list[Run]:
        body = {
            **_in_queue(queue),
            **filters,
            "sort": "NEXT_SCHEDULED_START_TIME_ASC",
            "limit": limit,
        }
        return [run for run in await self._prefect.filter_runs(body) if not run.retries_in_process]

    def _due(self, **filters: Any) -> dict[str, Any]:
        return {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "next_scheduled_start_time": {"before_": self._before.isoformat()},
            **filters,
        }


def _in_queue(queue: WorkQueue) -> dict[str, Any]:
    return {"work_pool_queues": {"id": {"any_": [str(queue.id)]}}}


def _by_time(runs: list[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.next_scheduled_start_time or _EPOCH)


_EPOCH = datetime.fromtimestamp(0, UTC)
