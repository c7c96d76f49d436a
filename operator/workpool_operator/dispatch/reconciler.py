"""The loops that keep every run on its way: take a key, take a snapshot, decide, execute, until
nothing is left to do now. A failed action delays its key; no failure ends a loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.dispatch.decide import decide
from workpool_operator.dispatch.executor import Executor
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.snapshot import Snapshot, take_snapshot
from workpool_operator.dispatch.steps import Later, Step
from workpool_operator.dispatch.store import RunStore
from workpool_operator.dispatch.workqueue import WorkQueue
from workpool_operator.errors import OperatorError, Unavailable
from workpool_operator.kube.cache import Cache, RunObjects
from workpool_operator.kube.views import Job, Pod

log = logging.getLogger(__name__)

REPEATS = 4  # more of the same action for one key have no effect: it backs off like a failure


class Reconciler:
    """`policy` is read for each decision; `heard(error)` is called when an action failed."""

    def __init__(
        self,
        place: Place,
        *,
        queue: WorkQueue[UUID],
        store: RunStore,
        jobs: Cache[Job],
        pods: Cache[Pod],
        executor: Executor,
        policy: Callable[[], Policy],
        heard: Callable[[OperatorError], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._place = place
        self._queue = queue
        self._store = store
        self._jobs = jobs
        self._pods = pods
        self._executor = executor
        self._policy = policy
        self._heard = heard
        self._clock = clock

    async def run(self) -> None:
        """Work for ever; several of these may run side by side."""
        while True:
            run_id = await self._queue.get()
            try:
                await self._reconcile(run_id)
                self._queue.forget(run_id)
            except OperatorError as error:
                self._heard(error)
                wait = getattr(error, "retry_after", None) or 0.0
                delay = self._queue.back_off(run_id, at_least=wait)
                level = logging.DEBUG if isinstance(error, Unavailable) else logging.WARNING
                log.log(level, "run %s: %s; again in %.0f s", run_id, error, delay)
            except Exception:
                delay = self._queue.back_off(run_id)
                log.exception("run %s: a defect of the operator; again in %.0f s", run_id, delay)
            finally:
                self._queue.done(run_id)

    async def _reconcile(self, run_id: UUID) -> None:
        taken: list[Step] = []
        again = True
        while again:
            action = self._decide(run_id)
            if taken.count(action) == REPEATS:
                raise OperatorError(f"{type(action).__name__} has no effect")
            taken.append(action)
            log.debug("run %s: %s", run_id, type(action).__name__)
            again = await self._executor.execute(run_id, action)

    def _decide(self, run_id: UUID) -> Step:
        if not (self._jobs.synced.is_set() and self._pods.synced.is_set()):
            return Later(0.2)
        seen = self._snapshot(run_id)
        self._store.put(run_id, seen.record)
        return decide(seen, self._policy(), wall=self._clock.now())

    def _snapshot(self, run_id: UUID) -> Snapshot:
        key = str(run_id)
        jobs = self._jobs.of(key)
        objects = RunObjects(
            jobs=jobs,
            pods=self._pods.of(key),
            gone_jobs=self._jobs.departed(key),
            gone_pods=self._pods.departed(key),
        )
        foreign = frozenset(job.name for job in jobs if not self._place.owns(job))
        return take_snapshot(
            run_id,
            self._store.of(run_id),
            objects,
            now=self._clock.monotonic(),
            foreign_jobs=foreign,
        )
