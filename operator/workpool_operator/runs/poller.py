"""Polls the work pool and offers due runs to the controller while there are free slots.

A poll starts at most `interval` seconds after the one before; an event only starts it earlier. Runs
are offered in the order of the poll (queue priority, then time). An offer holds a slot and expires
after two seconds.
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
LONGEST_WAIT_SECONDS = 60.0  # whatever Retry-After is: the liveness probe takes longer for stuck
# Wake-ups cause at most four polls per second: the first polls at once, a burst causes one poll.
CLOSEST_SECONDS = 0.25
QUIET_SECONDS = 0.02


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
        self._backlog = Backlog(prefect)
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
            known = {str(run.id) for run in page} | self._excluded_runs()
            candidates += await self._backlog.due_runs(
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

    def _excluded_runs(self) -> frozenset[str]:
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

    def _free(self, limit: int | None) -> int:
        taken = self._controller.in_flight().slots
        return PAGE_SIZE if limit is None else max(0, limit - taken)

    async def _offer(self, runs: list[Run], read_at: float) -> None:
        """Offer the runs with their deployments, which each poll reads again, with one request."""
        ids = {run.deployment_id for run in runs if run.deployment_id}
        found = await self._prefect.deployments(ids) if ids else {}
        for run in runs:
            deployment = found.get(run.deployment_id) if run.deployment_id else None
            self._controller.offer(run, read_at=read_at, deployment=deployment)
