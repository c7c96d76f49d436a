"""The loops that keep every run on its way: take a key, observe, decide, act, until nothing is left
to do now. A failed action delays its key; no failure ends a loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from workpool_operator.dispatch.actions import Actions
from workpool_operator.dispatch.decide import decide
from workpool_operator.dispatch.ledger import Ledger
from workpool_operator.dispatch.observed import Objects, Observed, observe
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.steps import Forget, Later, Nothing, StartTtl, Step, Withdraw
from workpool_operator.dispatch.workqueue import WorkQueue
from workpool_operator.errors import OperatorError, Unavailable
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.views import Job, Pod

log = logging.getLogger(__name__)

REPEATS = 4  # the same step more often in one look has no effect: it backs off like a failure


class Reconciler:
    """`policy` is read at each look; `idle()` is called when a Job is over or a run left
    nothing more to do, so that a slot may be free; `late()` when an offer was too old to claim on;
    `heard(error)` when a step failed."""

    def __init__(
        self,
        place: Place,
        *,
        queue: WorkQueue[UUID],
        ledger: Ledger,
        jobs: Cache[Job],
        pods: Cache[Pod],
        actions: Actions,
        policy: Callable[[], Policy],
        idle: Callable[[], None],
        late: Callable[[], None],
        heard: Callable[[OperatorError], None],
    ) -> None:
        self._place = place
        self._queue = queue
        self._ledger = ledger
        self._jobs = jobs
        self._pods = pods
        self._actions = actions
        self._policy = policy
        self._idle = idle
        self._late = late
        self._heard = heard

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
        while not isinstance(step := self._next(run_id), Nothing | Later):
            if taken.count(step) == REPEATS:
                raise OperatorError(f"{type(step).__name__} has no effect")
            taken.append(step)
            log.debug("run %s: %s", run_id, type(step).__name__)
            await self._actions.act(run_id, step)
            if step == Withdraw(late=True):
                self._late()
            if isinstance(step, StartTtl):
                self._idle()
            if isinstance(step, Forget):
                self._forget(run_id)
                return
        if isinstance(step, Later):
            self._queue.add_after(run_id, max(0.05, step.seconds))

    def _next(self, run_id: UUID) -> Step:
        if not (self._jobs.synced.is_set() and self._pods.synced.is_set()):
            return Later(0.2)
        return decide(self._observe(run_id), self._policy(), wall=datetime.now(UTC))

    def _observe(self, run_id: UUID) -> Observed:
        key = str(run_id)
        jobs = self._jobs.of(key)
        objects = Objects(
            jobs=jobs,
            pods=self._pods.of(key),
            gone_jobs=self._jobs.departed(key),
            gone_pods=self._pods.departed(key),
            strange=frozenset(job.name for job in jobs if not self._place.owns(job)),
        )
        return observe(run_id, self._ledger.of(run_id), objects, now=time.monotonic())

    def _forget(self, run_id: UUID) -> None:
        self._jobs.forget(str(run_id))
        self._pods.forget(str(run_id))
        self._idle()
