"""Find the runs that are due and fit, and offer them to the reconciler.

A poll decides, at most `interval` seconds after the one before; an event only brings it forward.
Runs are offered in the poll's order (queue priority, then time) until every slot is taken. An offer
holds a slot, and is good for two seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError, Unavailable
from workpool_operator.prefect_api.client import PAGE_SIZE, PrefectApi
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.backlog import Backlog
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.settings import PollSettings

log = logging.getLogger(__name__)

FAILED_POLL_SECONDS = (1.0, 10.0)
LONGEST_WAIT_SECONDS = 60.0  # whatever the server asks for: longer is a stuck loop to liveness
# Wake-ups make at most four polls per second: the first is served at once, a burst by one poll.
CLOSEST_SECONDS = 0.25
QUIET_SECONDS = 0.02


@dataclass(slots=True)
class PollResult:
    """What the last successful poll showed."""

    at: datetime | None = None
    queued: int = 0
    runs_left: bool = False  # due runs that found no slot, or whose last attempt is not over


class Poller:
    """The poll loop of one pool.

    `settings` and `queues` (None: all; with none there is nothing to poll) are live views;
    `may_claim()` says whether runs may be claimed at all; `polled(error)` is called after every
    poll, with None unless it failed.
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
        self._backlog = Backlog(prefect)
        self._wake = asyncio.Event()
        self._asked_at = float("-inf")
        self.last = PollResult()

    def wake(self) -> None:
        """Poll now: something may be due."""
        self._wake.set()

    def slot_freed(self) -> None:
        """Poll now if the last poll left runs behind for want of a slot."""
        if self.last.runs_left:
            self._wake.set()

    async def run(self) -> None:
        """Poll for ever."""
        delay = FAILED_POLL_SECONDS[0]
        while True:
            self._wake.clear()
            try:
                await self._poll()
            except OperatorError as error:
                self._polled(error)
                asked = error.retry_after if isinstance(error, Unavailable) else None
                await asyncio.sleep(min(asked or delay, LONGEST_WAIT_SECONDS))
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
        free = self._free(settings.concurrency_limit)
        if len(candidates) < free and self._hides_runs(page):
            known = {str(run.id) for run in page} | self._excluded_queues()
            candidates += await self._backlog.due_runs(
                known, queues=queues, before=before, taken=[*candidates, *self._offered()]
            )
        chosen = candidates[:free] if self._may_claim() else []
        await self._offer(chosen, asked_at)
        left = len(candidates) - len(chosen)
        behind = left > 0 or self._waits_for_previous_job(page)
        self.last = PollResult(self._clock.now(), queued=left, runs_left=behind)

    def _candidates(self, runs: list[Run]) -> list[Run]:
        """Runs that nobody here works on and that no refusal has put off."""
        not_wanted = self._excluded_queues()
        return [run for run in runs if str(run.id) not in not_wanted]

    def _excluded_queues(self) -> frozenset[str]:
        load, now = self._controller.in_flight(), self._clock.now()
        records = self._controller.store
        deferred = {str(run_id) for run_id, record in records if record.is_deferred(now)}
        return load.running | load.pending | deferred

    def _hides_runs(self, page: list[Run]) -> bool:
        """There may be due runs behind the page: it is full, or shortened by a limit of the pool or
        a queue to runs that cannot be claimed now."""
        now = self._clock.now()
        records = (self._controller.store.get(run.id) for run in page)
        return len(page) >= PAGE_SIZE or any(r is not None and r.is_deferred(now) for r in records)

    def _offered(self) -> list[Run]:
        """Runs that are about to be claimed, which the server does not count yet."""
        offered = (record for _, record in self._controller.store if record.offered_at is not None)
        return [record.run for record in offered if record.run]

    def _waits_for_previous_job(self, runs: list[Run]) -> bool:
        """One of the runs is due, but a pod of its last attempt still takes its slot."""
        load = self._controller.in_flight()
        offered = {run.id for run in self._offered()}
        waiting = {str(run.id) for run in runs if run.id not in offered}
        return not waiting.isdisjoint(load.running | load.pending)

    def _free(self, limit: int | None) -> int:
        taken = self._controller.in_flight().run_ids
        return PAGE_SIZE if limit is None else max(0, limit - taken)

    async def _offer(self, runs: list[Run], read_at: float) -> None:
        """With one call for all deployments: their job variables are never kept between polls."""
        ids = {run.deployment_id for run in runs if run.deployment_id}
        found = await self._prefect.deployments(ids) if ids else {}
        for run in runs:
            deployment = found.get(run.deployment_id) if run.deployment_id else None
            self._controller.offer(run, read_at=read_at, deployment=deployment)
