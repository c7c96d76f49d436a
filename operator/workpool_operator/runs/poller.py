"""Polls the work pool and offers due runs to the controller while there are free slots.

A poll starts at most `interval` seconds after the one before; an event only starts it earlier. Runs
are offered in the order of the poll (queue priority, then time). An offer holds a slot and expires
after two seconds.

A poll returns at most 200 runs, always the same ones first: if they cannot be claimed, all later
ones starve (docs/races.md, 6). If a page is full, each queue is read with a filter, in order of
priority. The filter ignores limits, so the limits of pool and queues are applied here, as the poll
applies them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError, Unavailable
from workpool_operator.prefect_api.client import PAGE_SIZE, PrefectApi
from workpool_operator.prefect_api.models import Run, WorkQueue
from workpool_operator.runs.capacity import UNLIMITED
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.settings import PollSettings

log = logging.getLogger(__name__)

FAILED_POLL_SECONDS = (1.0, 10.0)
LONGEST_WAIT_SECONDS = 60.0  # also if Retry-After is longer: the liveness probe would fail
# Wake-ups cause at most four polls per second: the first polls at once, a burst causes one poll.
CLOSEST_SECONDS = 0.25
QUIET_SECONDS = 0.02

_ACTIVE = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}


@dataclass(slots=True)
class PollResult:
    """The outcome of the last successful poll."""

    at: datetime | None = None
    queued: int = 0
    runs_left: bool = False  # due runs without a free slot, or whose previous pods still run


class Poller:
    """Polls one work pool.

    `settings()` and `queues()` (None: every queue; empty: no poll) return the present values.
    `may_claim()` returns whether runs may be claimed at all. `polled(error)` is called after every
    poll, with None if it succeeded.
    """

    def __init__(
        self,
        controller: RunController,
        *,
        prefect: PrefectApi,
        settings: Callable[[], PollSettings],
        queues: Callable[[], Sequence[str] | None],
        may_claim: Callable[[], bool],
        polled: Callable[[OperatorError | None], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._controller = controller
        self._prefect = prefect
        self._settings = settings
        self._queues = queues
        self._may_claim = may_claim
        self._polled = polled
        self._clock = clock
        self._wake = asyncio.Event()
        self._asked_at = float("-inf")
        self.last = PollResult()

    def wake(self) -> None:
        """Poll now: something may be due."""
        self._wake.set()

    def slot_freed(self) -> None:
        """Poll now if the last poll left runs behind because no slot was free."""
        if self.last.runs_left:
            self._wake.set()

    async def run(self) -> None:
        """Poll until cancelled."""
        delay = FAILED_POLL_SECONDS[0]
        while True:
            self._wake.clear()
            try:
                await self._poll()
            except OperatorError as error:
                self._polled(error)
                requested = error.retry_after if isinstance(error, Unavailable) else None
                await asyncio.sleep(min(requested or delay, LONGEST_WAIT_SECONDS))
                delay = min(delay * 2, FAILED_POLL_SECONDS[1])
                continue
            delay = FAILED_POLL_SECONDS[0]
            self._polled(None)
            await self._pause(self._settings().interval)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
            rest = self._asked_at + CLOSEST_SECONDS - self._clock.monotonic()
            await asyncio.sleep(max(QUIET_SECONDS, rest))
        except TimeoutError:
            pass

    async def _poll(self) -> None:
        if (queues := self._queues()) == ():
            return
        settings, queues = self._settings(), queues or ()
        before = self._clock.now() + timedelta(seconds=settings.prefetch)
        self._asked_at = asked_at = self._clock.monotonic()
        page = await self._prefect.poll(queues=queues, before=before)
        candidates = self._candidates(page)
        free = self._free(settings)
        if len(candidates) < free and self._hides_runs(page):
            known = {str(run.id) for run in page} | self._excluded_runs()
            candidates += await self._runs_behind_full_page(
                known, queues=queues, before=before, taken=[*candidates, *self._offered()]
            )
        chosen = candidates[:free] if self._may_claim() else []
        await self._offer(chosen, asked_at)
        left = len(candidates) - len(chosen)
        behind = left > 0 or self._waits_for_previous_job(page)
        self.last = PollResult(self._clock.now(), queued=left, runs_left=behind)

    def _candidates(self, runs: list[Run]) -> list[Run]:
        """Return the runs that are not in flight and whose claim is not deferred."""
        excluded = self._excluded_runs()
        return [run for run in runs if str(run.id) not in excluded]

    def _excluded_runs(self) -> Set[str]:
        in_flight, now = self._controller.in_flight(), self._clock.now()
        records = self._controller.store
        deferred = {str(run_id) for run_id, record in records if record.is_deferred(now)}
        return in_flight.running | in_flight.pending | deferred

    def _hides_runs(self, page: list[Run]) -> bool:
        """Return whether more due runs may exist: the page is full, or a limit of the pool or queue
        filled it with runs that cannot be claimed now."""
        now = self._clock.now()
        records = (self._controller.store.get(run.id) for run in page)
        return len(page) >= PAGE_SIZE or any(r is not None and r.is_deferred(now) for r in records)

    def _offered(self) -> list[Run]:
        """Return the runs that are about to be claimed: the server does not count them yet."""
        offered = (record for _, record in self._controller.store if record.offered_at is not None)
        return [record.run for record in offered if record.run]

    def _waits_for_previous_job(self, runs: list[Run]) -> bool:
        """Return whether a pod of a previous attempt still takes the slot of a due run."""
        in_flight = self._controller.in_flight()
        offered = {run.id for run in self._offered()}
        waiting = {str(run.id) for run in runs if run.id not in offered}
        return not waiting.isdisjoint(in_flight.running | in_flight.pending)

    def _free(self, settings: PollSettings) -> int:
        free = self._controller.free_slots(settings)
        return PAGE_SIZE if free == UNLIMITED else int(free)

    async def _offer(self, runs: list[Run], read_at: float) -> None:
        """Offer the runs with their deployments, which each poll reads again, with one request."""
        ids = {run.deployment_id for run in runs if run.deployment_id}
        found = await self._prefect.deployments(ids) if ids else {}
        for run in runs:
            deployment = found.get(run.deployment_id) if run.deployment_id else None
            self._controller.offer(run, read_at=read_at, deployment=deployment)

    # Behind a full page

    async def _runs_behind_full_page(
        self, known: Set[str], *, queues: Sequence[str], before: datetime, taken: Sequence[Run]
    ) -> list[Run]:
        """Return at most 200 due runs that are not in `known`, by queue priority, then by time. The
        `taken` runs are claimed first and count against the limits."""
        pool = await self._prefect.work_pool()
        in_pool = {"work_pools": {"id": {"any_": [str(pool.id)]}}}
        room = await self._room(pool.concurrency_limit, in_pool) - len(taken)
        in_queues = Counter(run.work_queue_id for run in taken)
        found: list[Run] = []
        for queue in await self._served_queues(queues):
            if room <= 0:
                break
            in_queue = await self._room(queue.concurrency_limit, _in_queue(queue.id))
            wanted = min(room, in_queue - in_queues[queue.id], PAGE_SIZE - len(found))
            due = await self._due_runs(queue, before=before, known=sorted(known), limit=wanted)
            found += due
            room -= len(due)
        return found

    async def _served_queues(self, names: Sequence[str]) -> list[WorkQueue]:
        queues = await self._prefect.work_queues()
        served = [q for q in queues if not q.is_paused and (not names or q.name in names)]
        return sorted(served, key=lambda queue: queue.priority)

    async def _room(self, limit: int | None, where: dict[str, Any]) -> float:
        if limit is None:
            return UNLIMITED
        return max(0, limit - await self._prefect.count_runs({**where, "flow_runs": _ACTIVE}))

    async def _due_runs(
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
        return [run for run in await self._prefect.filter_runs(body) if not run.retries_in_process]


def _in_queue(queue_id: UUID) -> dict[str, Any]:
    return {"work_pool_queues": {"id": {"any_": [str(queue_id)]}}}
