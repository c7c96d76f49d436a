"""Reconciles runs: take a key, take a snapshot, decide, execute, and repeat until nothing is to be
done now. A failed action delays its key; a failure does not end the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from uuid import UUID

from workpool_operator import logs
from workpool_operator.clock import Clocks
from workpool_operator.errors import (
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
    PrefectRefused,
    PrefectUnavailable,
    Unavailable,
)
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.runs.actions import Action, NoAction, RequeueAfter
from workpool_operator.runs.back_pressure import BackPressure
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.decide import decide
from workpool_operator.runs.executor import Executor
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.progress import TRACE_ID, RunObserver
from workpool_operator.runs.settings import RunSettings
from workpool_operator.runs.snapshot import Snapshot, take_snapshot
from workpool_operator.runs.store import RunStore
from workpool_operator.runs.workqueue import WorkQueue

log = logging.getLogger(__name__)

REPEATS = (
    4  # of one action for one key: more have no effect, so the key is delayed as after a failure
)


class Reconciler:
    """Takes runs from the queue.

    `settings()` returns the present values. `hold(run_id)` returns the action to take if nothing
    can be decided about the run now. `reconciled(run_id)` is called after each attempt.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        queue: WorkQueue[UUID],
        store: RunStore,
        cluster: ClusterCache,
        executor: Executor,
        settings: Callable[[], RunSettings],
        listener: Listener,
        back_pressure: BackPressure,
        hold: Callable[[UUID], NoAction | RequeueAfter | None],
        reconciled: Callable[[UUID], None],
        clocks: Clocks,
        observer: RunObserver | None = None,
    ) -> None:
        self._owner = owner
        self._queue = queue
        self._store = store
        self._cluster = cluster
        self._executor = executor
        self._settings = settings
        self._listener = listener
        self._back_pressure = back_pressure
        self._hold = hold
        self._reconciled = reconciled
        self._clocks = clocks
        self._observer = observer or RunObserver()

    async def run(self) -> None:
        """Reconcile until cancelled; several of these may run concurrently."""
        while True:
            run_id = await self._queue.get()
            try:
                await self._reconcile(run_id)
                self._queue.forget(run_id)
            except OperatorError as error:
                if isinstance(error, PrefectUnavailable):
                    self._listener.prefect_failed(error)
                wait = error.retry_after or 0.0
                delay = self._queue.add_rate_limited(run_id, at_least=wait)
                level = logging.DEBUG if isinstance(error, Unavailable) else logging.WARNING
                self._observer.attempt_failed(run_id, _cause(error))
                with self._about(run_id):
                    log.log(level, "run %s: %s; retrying in %.0f s", run_id, error, delay)
            except Exception:
                delay = self._queue.add_rate_limited(run_id)
                self._observer.attempt_failed(run_id, "operator")
                with self._about(run_id):
                    text = "run %s: a bug in the operator; retrying in %.0f s"
                    log.exception(text, run_id, delay)
            finally:
                self._queue.done(run_id)
                self._reconciled(run_id)
            await asyncio.sleep(0)  # to other bindings: the queue may hold thousands of runs

    async def _reconcile(self, run_id: UUID) -> None:
        taken: list[Action] = []
        again = True
        while again:
            action = self._decide(run_id)
            if taken.count(action) == REPEATS:
                raise OperatorError(f"{type(action).__name__} has no effect")
            taken.append(action)
            with self._about(run_id):
                log.debug("run %s: %s", run_id, type(action).__name__)
                again = await self._executor.execute(run_id, action)

    def _about(self, run_id: UUID) -> AbstractContextManager[None]:
        """Name the run in the lines that are logged meanwhile."""
        record = self._store.of(run_id)
        jobs = self._cluster.jobs.by_run(str(run_id))
        job = next((job.metadata.key for job in jobs if job.name == record.observed_name), "")
        return logs.about(
            run=run_id,
            flow_run_name=record.name,
            job=job or record.recorded_job_key,
            trace_id=self._observer.traceparent(run_id)[TRACE_ID],
        )

    def _decide(self, run_id: UUID) -> Action:
        if held := self._hold(run_id):
            return held
        seen = self._snapshot(run_id)
        self._store.put(run_id, seen.record)
        wall = self._clocks.kubernetes.now()
        ahead = self._clocks.prefect.now() - wall
        return decide(seen, self._settings().timeouts, wall=wall, prefect_ahead=ahead)

    def _snapshot(self, run_id: UUID) -> Snapshot:
        objects, now = self._cluster.objects(run_id), self._clocks.own.monotonic()
        settings = self._settings()
        foreign = frozenset(job.name for job in objects.jobs if not self._owner.owns(job))
        return take_snapshot(
            run_id,
            self._store.of(run_id),
            objects,
            now=now,
            foreign_jobs=foreign,
            claims_held=not settings.claims or self._back_pressure.holds_claims(now),
            cancels=settings.cancels,
            quota_probed=self._back_pressure.is_probed_by_other(run_id),
            creation_paused=self._back_pressure.paused_seconds(now),
            claiming=self._store.is_claiming,
        )


def _cause(error: OperatorError) -> str:
    """Return what is to blame for a failed action."""
    if isinstance(error, PrefectUnavailable | PrefectRefused):
        return "prefect"
    is_kubernetes = isinstance(error, KubernetesUnavailable | KubernetesRefused)
    return "kubernetes" if is_kubernetes else "operator"
