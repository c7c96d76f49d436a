"""Sends Prefect an event for each phase of a run's pods, as the stock worker's observer does.

    cluster changed --> PodEvents.update --> queue --> PodEvents.run --> POST /events, in batches

It compares what an event would report of a pod with what was queued for it last. The ids of events
are the same in every process: for a pod of a run that this process did not claim itself, Prefect is
asked first which of them it has. Events only inform: nothing waits for them, and those that cannot
be delivered are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError, PrefectThrottled, Unavailable
from workpool_operator.jobs.pod_event import (
    FOLLOWS_WITHIN,
    PodPhase,
    occurred,
    pod_event,
    read_phase,
)
from workpool_operator.kube.models import Job, Pod
from workpool_operator.logs import ProblemLogger
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.runs.claims import Owner

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
BATCH_SIZE = 50  # the most events that Prefect returns for one question
MAX_QUEUED = 20_000
BACKOFF_SECONDS = (1.0, 30.0)
RETRY_SECONDS = 240.0  # Prefect drops a repeated event for five minutes at most
RETENTION = timedelta(days=7)  # of events, in a server as it is installed
PROBLEM = "pod events are not delivered to Prefect, so that its timelines and automations lack them"


@dataclass(frozen=True, slots=True)
class _Known:
    """A pod and the last event that was queued for it; `diagnoses` are those of its present phase
    and restarts."""

    pod: Pod
    phase: PodPhase
    diagnoses: tuple[str, ...]
    event_id: UUID | None  # None if it was not queued
    occurred: datetime


@dataclass(frozen=True, slots=True)
class _Queued:
    """An event to be sent, unless it `may_exist` and Prefect has it."""

    pod: Pod
    phase: PodPhase
    id: UUID
    occurred: datetime
    follows: UUID | None
    may_exist: bool


class PodEvents:
    """Queues the events of the owner's pods, at most `MAX_QUEUED`, and sends them in a loop while
    `is_enabled()`."""

    def __init__(
        self,
        owner: Owner,
        *,
        api: PrefectApi,
        is_enabled: Callable[[], bool],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._owner = owner
        self._api = api
        self._is_enabled = is_enabled
        self._clock = clock
        self._known: dict[UUID, tuple[_Known, ...]] = {}  # by run; a dict would take more memory
        self._queued: deque[_Queued] = deque()
        self._added = asyncio.Event()
        self._sending = asyncio.Lock()
        self._lost: set[UUID] = set()  # events that were dropped: no event may follow them
        self._problems = ProblemLogger(log, owner.binding)

    def knows(self, run_id: UUID) -> bool:
        """Return whether a pod of the run is known."""
        return run_id in self._known

    def update(
        self, run_id: UUID, jobs: Sequence[Job], pods: Sequence[Pod], *, claimed_here: bool
    ) -> None:
        """Queue the events of what is new about the run's pods. `claimed_here`: this process
        claimed the run, so that no other one has sent them."""
        before = {known.phase.uid: known for known in self._known.get(run_id, ())}
        ours = {job.name for job in jobs if self._owner.is_of_server(job)}
        now = tuple(
            self._note(pod, before.get(pod.metadata.uid), not claimed_here)
            for pod in pods
            if pod.metadata.uid in before or pod.job_name in ours
        )
        if now:
            self._known[run_id] = now
        else:
            self._known.pop(run_id, None)

    def _note(self, pod: Pod, before: _Known | None, may_exist: bool) -> _Known:
        if before and before.pod is pod:
            return before
        phase = read_phase(pod)
        diagnoses: tuple[str, ...] = ()
        if before and _is_same(phase, before.phase):
            if phase.diagnosis in before.diagnoses:
                return replace(before, pod=pod)
            diagnoses = before.diagnoses
        when, id_ = occurred(pod, phase) or self._clock.now(), phase.event_id
        is_close = before is not None and abs(when - before.occurred) < FOLLOWS_WITHIN
        follows = before.event_id if before and is_close else None
        is_queued = self._queue(_Queued(pod, phase, id_, when, follows, may_exist))
        all_diagnoses = (*diagnoses, phase.diagnosis)
        return _Known(pod, phase, all_diagnoses, id_ if is_queued else None, when)

    def _queue(self, event: _Queued) -> bool:
        if not self._is_enabled() or len(self._queued) >= MAX_QUEUED:
            return False
        self._queued.append(event)
        self._added.set()
        return True

    def _lose(self, ids: Iterable[UUID]) -> None:
        if len(self._lost) > MAX_QUEUED:
            self._lost.clear()
        self._lost.update(ids)

    async def run(self) -> None:
        """Send the queued events until cancelled."""
        while True:
            await self._added.wait()
            await asyncio.sleep(INTERVAL_SECONDS)
            self._added.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send the queued events, after the batch that is being sent."""
        async with self._sending:
            while self._queued:
                await self._send_batch()

    async def _send_batch(self) -> None:
        """Send one batch; drop it if Prefect refuses it, or does not answer for too long."""
        count = min(BATCH_SIZE, len(self._queued))
        batch = [self._queued.popleft() for _ in range(count)]
        until = self._clock.monotonic() + RETRY_SECONDS
        delay, longest = BACKOFF_SECONDS
        while True:
            try:
                await self._send(batch)
            except OperatorError as error:
                if not isinstance(error, PrefectThrottled):
                    self._problems.report(PROBLEM, error)
                wait = max(error.retry_after or 0.0, delay * random.uniform(0.8, 1.2))
                if not isinstance(error, Unavailable) or self._clock.monotonic() + wait > until:
                    self._lose(event.id for event in batch)
                    return
                await asyncio.sleep(wait)
                delay = min(delay * 2, longest)
            else:
                self._problems.resolved(PROBLEM)
                return

    async def _send(self, batch: Sequence[_Queued]) -> None:
        """Send those of the batch that Prefect does not have."""
        oldest = self._api.clock.now() - RETENTION
        events = [event for event in batch if not event.may_exist or event.occurred > oldest]
        asked = [event for event in events if event.may_exist]
        existing: frozenset[UUID] = frozenset()
        if asked:
            created = min(event.pod.metadata.creation_timestamp or oldest for event in asked)
            existing = await self._api.existing_events(
                [event.id for event in asked], since=max(created, oldest)
            )
        new = [self._document(event) for event in events if event.id not in existing]
        if new:
            await self._api.write_events(new)

    def _document(self, event: _Queued) -> dict[str, Any]:
        follows = None if event.follows in self._lost else event.follows
        return pod_event(
            event.pod,
            event.phase,
            at=event.occurred,
            follows=follows,
            worker_type=self._owner.worker_type,
        )


def _is_same(one: PodPhase, other: PodPhase) -> bool:
    """Return whether both are of the same phase and restarts, whatever their diagnosis."""
    return (one.phase, one.restarts) == (other.phase, other.restarts)
