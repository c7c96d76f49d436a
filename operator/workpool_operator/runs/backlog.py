"""Finds the due runs that a full poll page hides.

A poll returns at most 200 runs, always the same ones first: if they cannot be claimed, all later
ones starve (docs/races.md, 6). If a page is full, each queue is read with a filter, in order of
priority. The filter ignores limits, so the limits of pool and queues are applied here, as the poll
applies them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from datetime import datetime
from typing import Any
from uuid import UUID

from workpool_operator.prefect_api.client import PAGE_SIZE, PrefectApi
from workpool_operator.prefect_api.models import Run, WorkQueue

UNLIMITED = float("inf")
_ACTIVE = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}


class Backlog:
    """Reads the due runs of one pool past the first page."""

    def __init__(self, api: PrefectApi) -> None:
        self._api = api

    async def due_runs(
        self, known: Set[str], *, queues: Sequence[str], before: datetime, taken: Sequence[Run]
    ) -> list[Run]:
        """Return at most 200 due runs that are not in `known`, by queue priority, then by time. The
        `taken` runs are claimed first and count against the limits."""
        pool = await self._api.work_pool()
        in_pool = {"work_pools": {"id": {"any_": [str(pool.id)]}}}
        room = await self._room(pool.concurrency_limit, in_pool) - len(taken)
        in_queues = Counter(run.work_queue_id for run in taken)
        found: list[Run] = []
        for queue in await self._served(queues):
            if room <= 0:
                break
            in_queue = await self._room(queue.concurrency_limit, _in_queue(queue.id))
            wanted = min(room, in_queue - in_queues[queue.id], PAGE_SIZE - len(found))
            due = await self._due(queue, before=before, known=sorted(known), limit=wanted)
            found += due
            room -= len(due)
        return found

    async def _served(self, names: Sequence[str]) -> list[WorkQueue]:
        queues = await self._api.work_queues()
        served = [q for q in queues if not q.is_paused and (not names or q.name in names)]
        return sorted(served, key=lambda queue: queue.priority)

    async def _room(self, limit: int | None, where: dict[str, Any]) -> float:
        if limit is None:
            return UNLIMITED
        return max(0, limit - await self._api.count_runs({**where, "flow_runs": _ACTIVE}))

    async def _due(
        self, queue: WorkQueue, *, before: datetime, known: list[str], limit: float
    ) -> list[Run]:
        if limit <= 0:
            return []
        flow_runs = {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "next_scheduled_start_time": {"before_": before.isoformat()},
            "id": {"not_any_": known},
        }
        body = {
            **_in_queue(queue.id),
            "flow_runs": flow_runs,
            "sort": "NEXT_SCHEDULED_START_TIME_ASC",
            "limit": int(limit),
        }
        return [run for run in await self._api.filter_runs(body) if not run.retries_in_process]


def _in_queue(queue_id: UUID) -> dict[str, Any]:
    return {"work_pool_queues": {"id": {"any_": [str(queue_id)]}}}
