"""Polls the work pool and offers due runs to the controller while there are free slots.

A poll starts at most `interval` seconds after the one before, and earlier if it may find a run to
claim: after an event; when a slot becomes free for a run that waits for it; when a run that was put
off is due again; when spec or pool admit more runs; in a burst when the offers run out; and when a
server is usable again. Runs are offered in the order of the poll. An offer holds a slot and expires
after two seconds, so that a poll reads as many runs as will be claimed in time (`offer_window`).

Runs that cannot be claimed are left out: those in flight, those whose claim was refused a moment
ago, and those of deployments without a free slot (`deployment_limits`). If they fill a page,
filters find what is behind it (`due_runs`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError
from workpool_operator.logs import about
from workpool_operator.prefect_api.client import PAGE_SIZE, PrefectApi
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.deployment_limits import DeploymentLimits, why_it_waits
from workpool_operator.runs.due_runs import DueRuns
from workpool_operator.runs.offer_window import OfferWindow
from workpool_operator.runs.settings import PollSettings

log = logging.getLogger(__name__)

FAILED_POLL_SECONDS = (1.0, 10.0)
# Wake-ups cause at most four polls per second: the first polls at once, a burst causes one poll.
CLOSEST_SECONDS = 0.25
QUIET_SECONDS = 0.02
SLOT_SECONDS = 1.0  # after the event of a run's end or pause its slot may still count as taken
COUNT_SECONDS = 5.0  # between counts of the runs that wait
# Between reads of the concurrency limits of pool and queues, in a poll that offers no run; one that
# does leaves the server to the claims, unless they are twice as old.
LIMITS_SECONDS = 60.0
MOST_LOGGED = 10_000  # runs whose wait was logged, before all of them are forgotten
MOST_PAGES = 8  # read for one poll: runs that cannot be claimed may fill them


@dataclass(slots=True)
class PollResult:
    """The outcome of the last successful poll.

    Of the due runs that are `queued`, `limited` wait for their deployment's concurrency limit.
    `hidden`: a limit of the pool or of a queue can hide others from polls.
    """

    at: datetime | None = None
    queued: int = 0
    limited: int = 0
    hidden: bool = False
    runs_left: bool = False  # due runs without a free slot of whatever limit, or with old pods


@dataclass(slots=True)
class _Poll:
    """One poll in progress: what it still has to do, and what it found."""

    due: DueRuns
    wanted: int  # the number of runs to offer
    in_time: bool  # the window limits that number, not the slots
    seen: set[UUID] = field(default_factory=set)
    offered: int = 0
    queued: int = 0  # due runs that were read and not offered
    limited: int = 0  # of these: their deployment has no free slot
    hides: bool = False  # a run was read that cannot be claimed now
    is_cut: bool = False  # the page is full: it may hide others
    read_behind: bool = False  # the runs behind the page were read, too
    runs_left: bool = False  # see PollResult

    @property
    def is_done(self) -> bool:
        """All wanted runs are offered."""
        return self.offered >= self.wanted

    @property
    def fills_window(self) -> bool:
        """More runs can be offered as soon as some of the offers are claimed."""
        has_more = self.is_cut and not self.read_behind and self.offered > 0
        return self.in_time and (self.is_done or has_more)

    def leave_limited(self, count: int) -> None:
        """Note runs whose deployment has no free slot."""
        self.queued += count
        self.limited += count

    def leave(self, count: int) -> None:
        """Note runs that could be claimed but for the number of slots or offers."""
        self.queued += count
        self.runs_left |= count > 0


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
        self._store = controller.store
        self._prefect = prefect
        self._settings = settings
        self._queues = queues
        self._may_claim = may_claim
        self._polled = polled
        self._clock = clock
        self._window = OfferWindow()
        self._limits = DeploymentLimits()
        self._logged: set[UUID] = set()  # the runs whose wait for a slot was logged
        self._looks: dict[UUID, asyncio.TimerHandle] = {}  # for a slot, by deployment
        self._woken = False  # something may be due that the last poll did not return
        self._slot_freed = False  # since the last poll began
        self._in_progress = False
        self._at_once = asyncio.Event()
        self._changed = asyncio.Event()
        self._asked_at = self._counted_at = self._limits_read_at = float("-inf")
        self._is_limited = False
        self.succeeded_at = float("-inf")  # when the last successful poll began, monotonic
        self.last = PollResult()

    # What starts a poll

    def wake(self) -> None:
        """Poll as soon as a slot is free: something may be due."""
        self._woken = True
        self._changed.set()

    def poll_at_once(self, *, since: float = float("inf")) -> None:
        """Poll now, also without a free slot, and although the last poll has just failed. A poll in
        progress will do if it began at `since`, in monotonic seconds, or later."""
        if self._in_progress and self._asked_at >= since:
            return
        self._at_once.set()
        self._changed.set()

    def slot_freed(self) -> None:
        """Poll if the last poll, or the one in progress, left runs without a slot."""
        self._slot_freed = True
        self._changed.set()

    def slot_returned(self, deployment: UUID) -> None:
        """Poll if runs of the deployment wait for one of its slots, or runs of any for one of the
        pool or of a queue."""
        self.slot_freed()
        if self._limits.slot_returned(deployment):
            self.wake()
        self._look_for_slot_later(deployment)

    def _look_for_slot_later(self, deployment: UUID) -> None:
        if look := self._looks.pop(deployment, None):
            look.cancel()
        loop = asyncio.get_running_loop()
        look = loop.call_later(SLOT_SECONDS, self._look_for_slot_again, deployment)
        self._looks[deployment] = look

    def _look_for_slot_again(self, deployment: UUID) -> None:
        """Poll if the deployment still had no free slot after its run returned one. What a poll in
        progress reads can be older than that."""
        del self._looks[deployment]
        if self._in_progress:
            self._look_for_slot_later(deployment)
        elif deployment in self._limits.full(self._clock.monotonic()):
            self._limits.slot_returned(deployment)
            self.wake()

    def offer_closed(self, run_id: UUID) -> None:
        """Poll if the offers run out. If Prefect refused the claim, withdraw the offers of the same
        deployment."""
        record = self._store.of(run_id)
        if record.offered_at is None:
            self._window.offer_closed()
        deployment = record.run.deployment_id if record.run else None
        if deployment and record.claim:
            self._woken |= self._limits.claim_accepted(deployment)
        elif deployment and record.refused_under and record.is_deferred(self._clock.now()):
            self._limits.claim_refused(deployment, self._clock.monotonic())
            self._controller.withdraw_offers(deployment)
        self._changed.set()

    async def run(self) -> None:
        """Poll until cancelled."""
        delay = FAILED_POLL_SECONDS[0]
        while True:
            self._woken = self._slot_freed = False
            self._at_once.clear()
            try:
                await self._attempt()
            except OperatorError as error:
                self._polled(error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(error.retry_after or delay):
                        await self._at_once.wait()
                delay = min(delay * 2, FAILED_POLL_SECONDS[1])
                continue
            delay = FAILED_POLL_SECONDS[0]
            self._polled(None)
            await self._pause(self._settings().interval)

    async def _pause(self, seconds: float) -> None:
        """Wait for the next poll."""
        try:
            async with asyncio.timeout(seconds):
                while not self._is_due():
                    self._changed.clear()
                    await self._changed.wait()
                if not self._is_low():
                    rest = self._asked_at + CLOSEST_SECONDS - self._clock.monotonic()
                    await asyncio.sleep(max(QUIET_SECONDS, rest))
        except TimeoutError:
            pass

    def _is_due(self) -> bool:
        if self._at_once.is_set():
            return True
        if self._store.offers_follow:
            return self._is_low()
        is_woken = self._woken or (self._slot_freed and self.last.runs_left)
        return is_woken and self._wanted() > 0

    def _is_low(self) -> bool:
        is_low = self._window.is_low(len(self._store.offered))
        return self._store.offers_follow and is_low and self._wanted() > 0

    def _wanted(self) -> int:
        """Return how many offers may be added to the open ones."""
        return max(0, min(self._room(), self._free())) if self._may_claim() else 0

    def _room(self) -> int:
        """Return how many more offers will be claimed in time."""
        return self._window.size - len(self._store.offered)

    def _free(self) -> int:
        """Return the number of free slots; at most as many as a poll can fill."""
        return int(min(PAGE_SIZE, self._controller.free_slots(self._settings())))

    # One poll

    async def _attempt(self) -> None:
        self._in_progress = True
        try:
            await self._poll()
        finally:
            self._in_progress = False

    async def _poll(self) -> None:
        if (queues := self._queues()) == ():
            return
        prefetch = timedelta(seconds=self._settings().prefetch)
        due = DueRuns(self._prefect, queues=queues or (), before=self._clock.now() + prefetch)
        self._asked_at = self._clock.monotonic()
        open_offers = len(self._store.offered)
        self._window.resize(
            is_burst=self._store.offers_follow, open_offers=open_offers, now=self._asked_at
        )
        in_time = self._may_claim() and self._room() <= self._free()
        poll = _Poll(due, wanted=self._wanted(), in_time=in_time)
        limit = min(PAGE_SIZE, open_offers + max(1, poll.wanted))
        page = await due.first(limit)
        poll.is_cut = len(page) >= limit
        await self._offer(poll, page, read_at=self._asked_at)
        if not poll.is_done and poll.hides and (poll.is_cut or await due.is_limited()):
            await self._offer_runs_behind(poll)
        poll.runs_left |= poll.is_cut and poll.is_done
        self._store.offers_follow = poll.fills_window
        is_limited = await self._limits_a_poll(poll)
        queued = await self._queued(poll, is_limited=is_limited)
        may_wait = queued > 0 or self._counted_at < self._asked_at  # they were not counted again
        runs_left = poll.runs_left or (is_limited and may_wait)
        self.last = PollResult(
            self._clock.now(),
            queued=queued,
            limited=poll.limited,
            hidden=is_limited,
            runs_left=runs_left,
        )
        self.succeeded_at = self._asked_at

    async def _offer_runs_behind(self, poll: _Poll) -> None:
        """Offer runs that the poll's page hides. Pages grow, because none of their runs may be
        claimable."""
        size = poll.wanted - poll.offered
        for _ in range(MOST_PAGES):
            asked_at = self._clock.monotonic()
            poll.hides = False
            page = await poll.due.next(
                size,
                known=poll.seen | self._store.offered | self._deferred(),
                full=self._limits.full(asked_at),
                offered=self._offered(),
            )
            await self._offer(poll, page, read_at=asked_at)
            if poll.is_done or not page or (len(page) < size and not poll.hides):
                break
            size = min(size * 2, PAGE_SIZE)
        poll.read_behind = True

    async def _offer(self, poll: _Poll, page: Sequence[Run], *, read_at: float) -> None:
        """Offer the runs that can be claimed with their deployments, which are read for each page
        with one request."""
        candidates = self._candidates(poll, page)
        if not candidates:
            return
        if self._wanted() == 0:
            poll.leave(len(candidates))
            return
        offered = [run.deployment_id for run in self._offered()]
        ids = {run.deployment_id for run in candidates if run.deployment_id}
        found = await self._prefect.deployments(ids) if ids else {}
        now = self._clock.monotonic()
        admitted = self._limits.admit(candidates, found, offered=offered, now=now)
        going = {run.id for run in admitted}
        self._log_waits([run for run in candidates if run.id not in going], found)
        chosen = admitted[: self._wanted()]  # claims go on meanwhile
        for run in chosen:
            deployment = found.get(run.deployment_id) if run.deployment_id else None
            if self._controller.offer(run, read_at=read_at, deployment=deployment):
                poll.offered += 1
            else:
                self._woken = True  # the next poll shows whether it is due
        poll.hides |= len(admitted) < len(candidates)
        poll.leave_limited(len(candidates) - len(admitted))
        poll.leave(len(admitted) - len(chosen))

    def _log_waits(self, runs: Sequence[Run], deployments: Mapping[UUID, dict[str, Any]]) -> None:
        """Write to the log of each run, once, that its deployment has no free slot: its state is
        still Scheduled or Late, because no claim was refused."""
        if len(self._logged) > MOST_LOGGED:
            self._logged.clear()
        for run in runs:
            deployment = deployments.get(run.deployment_id) if run.deployment_id else None
            reason = why_it_waits(deployment) if deployment else ""
            if reason and run.id not in self._logged:
                self._logged.add(run.id)
                self._controller.run_log.write(run.id, reason)
                with about(run=run.id, flow_run_name=run.name):
                    log.info("run %s (%s) is not claimed: %s", run.id, run.name, reason)

    def _candidates(self, poll: _Poll, page: Sequence[Run]) -> list[Run]:
        """Return the runs that are not in flight or left out."""
        in_flight, full = self._controller.in_flight(), self._limits.full(self._clock.monotonic())
        now, found = self._clock.now(), []
        for run in page:
            poll.seen.add(run.id)
            record = self._store.of(run.id)
            if record.offered_at is not None:
                continue
            if record.claim is not None:  # claimed since the poll, or an event was missed
                poll.hides = True
            elif str(run.id) in in_flight:  # a pod of its previous attempt
                poll.hides = poll.runs_left = True
            elif record.is_deferred(now) or run.retries_in_process:
                poll.hides = True
            elif run.deployment_id in full:
                poll.hides = True
                poll.leave_limited(1)
            else:
                found.append(run)
        return found

    def _offered(self) -> list[Run]:
        """Return the runs that are about to be claimed: the server does not count them yet."""
        records = (self._store.of(run_id) for run_id in self._store.offered)
        return [record.run for record in records if record.run]

    def _deferred(self) -> set[UUID]:
        """Return the runs whose claim was refused a moment ago."""
        now = self._clock.now()
        return {run_id for run_id, record in self._store if record.is_deferred(now)}

    async def _limits_a_poll(self, poll: _Poll) -> bool:
        """Return whether a concurrency limit of the pool or of a queue can hide runs from a poll,
        as it was two minutes ago at the earliest."""
        lasts = 2 * LIMITS_SECONDS if poll.offered else LIMITS_SECONDS
        if self._asked_at - self._limits_read_at >= lasts:
            self._is_limited = await poll.due.is_limited()
            self._limits_read_at = self._asked_at
        return self._is_limited

    async def _queued(self, poll: _Poll, *, is_limited: bool) -> int:
        """Return how many due runs were not offered. Those that the poll may hide are counted, but
        not for each poll of a burst."""
        if not (poll.is_cut or is_limited):
            return poll.queued
        now = self._clock.monotonic()
        if now - self._counted_at < COUNT_SECONDS:
            return self.last.queued
        self._counted_at = now
        return max(0, await poll.due.count() - len(self._store.offered))
