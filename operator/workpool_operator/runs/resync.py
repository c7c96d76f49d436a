"""Lists runs, Jobs and pods regularly, so that nothing depends on an event or on memory.

The first resync adopts what an earlier process left unfinished: nothing is claimed before it has
completed. It lists by Job and by run, not only by pool: the runs of a deleted pool have lost its id
(docs/races.md, 25).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.store import RunStore
from workpool_operator.runs.workqueue import WorkQueue
from workpool_operator.slices import batches, in_slices

log = logging.getLogger(__name__)

FAILED_SECONDS = 2.0
LIMIT = 100  # runs of one list: decoding 200, and a garbage collection, block the loop for 53 ms
OVERLAP = 10  # runs of two pages: one that ends after the first page moves all others up
UNFINISHED = ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]


class Resync:
    """Lists runs, Jobs and pods; `adopted` is set once all that existed at the start is stored."""

    def __init__(
        self,
        *,
        api: PrefectApi,
        owner: Owner,
        queue: WorkQueue[UUID],
        store: RunStore,
        cluster: ClusterCache,
        failed: Callable[[OperatorError], None],
        interval: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._api = api
        self._owner = owner
        self._queue = queue
        self._store = store
        self._cluster = cluster
        self._failed = failed
        self._interval = interval
        self._clock = clock
        self._wake = asyncio.Event()
        self._error: OperatorError | None = None
        self._attempted = asyncio.Event()  # successfully or not
        self.has_begun = False
        self.adopted = asyncio.Event()

    def wake(self) -> None:
        """List both again now: events may have been missed."""
        self._wake.set()

    async def run(self) -> None:
        """List both at once, when woken, and after each interval, until cancelled."""
        self.has_begun = True
        while True:
            self._wake.clear()
            try:
                await self._listed()
                await self._list_both()
                self.adopted.set()
                self._attempted.set()
                await self._pause()
            except OperatorError as error:
                self._error = error
                self._attempted.set()
                self._failed(error)
                await asyncio.sleep(FAILED_SECONDS)

    async def attempt(self) -> None:
        """Wait until both were listed.

        Raises:
            OperatorError: they could not be listed yet; the loop tries again.
        """
        await self._attempted.wait()
        if not self.adopted.is_set() and self._error:
            raise self._error

    async def _listed(self) -> None:
        """Wait until a binding's namespaces are listed. One that the API server refuses to list
        holds only its own runs."""
        if self._owner.namespace:
            await self._cluster.synced(self._owner.namespace)
            for namespace in self._cluster.namespaces:
                await self._cluster.answered(namespace)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _list_both(self) -> None:
        known = await self._of_pool()
        unlisted: list[UUID] = []
        async for run_id in in_slices(chain(self._cluster.run_ids(), self._store.run_ids())):
            if run_id not in known:
                known.add(run_id)
                unlisted.append(run_id)
        for batch in batches(unlisted, LIMIT):
            await self._by_id(batch)
        async for run_id in in_slices(known):
            self._queue.add(run_id)

    async def _of_pool(self) -> set[UUID]:
        """Store the pool's unfinished runs and return their ids. If processes share the transition
        ids, they are read once: a run that is claimed later belongs to the process that claims it.
        """
        if self._owner.shares_transition_ids and self.adopted.is_set():
            return set()
        return await self._unfinished() | await self._retrying()

    async def _unfinished(self) -> set[UUID]:
        """Store the pool's runs that a worker or operator has claimed, and that have not ended."""
        return await self._apply_all({"state": {"type": {"any_": UNFINISHED}}})

    async def _retrying(self) -> set[UUID]:
        """Store the runs that wait for a retry in one of our pods, which can be deleted meanwhile:
        no poll returns them (docs/races.md, 26)."""
        scheduled = {"state": {"type": {"any_": ["SCHEDULED"]}}, "start_time": {"is_null_": False}}
        return await self._apply_all(scheduled, if_=self._retries_here)

    def _retries_here(self, run: Run) -> bool:
        namespace = (run.infrastructure_pid or "").partition(":")[0]
        return run.retries_in_process and namespace in self._owner.namespaces

    async def _apply_all(
        self, flow_runs: dict[str, Any], *, if_: Callable[[Run], bool] = lambda _: True
    ) -> set[UUID]:
        """Store the matching runs of the pool and return their ids: thousands of documents at once
        would take 10 KB each."""
        where: dict[str, Any] = {
            "work_pools": {"id": {"any_": [str(self._owner.pool_id)]}},
            "flow_runs": flow_runs,
            "sort": "ID_DESC",
            "limit": LIMIT,
        }
        ids: set[UUID] = set()
        offset = 0
        while True:
            asked_at = self._clock.monotonic()
            page = await self._api.filter_runs({**where, "offset": offset})
            offset += len(page) - OVERLAP
            wanted = [run for run in page if if_(run)]
            await self._apply(wanted, asked_at=asked_at)
            ids.update(run.id for run in wanted)
            if len(page) < LIMIT:
                return ids

    async def _by_id(self, ids: list[UUID]) -> None:
        wanted = [str(run_id) for run_id in ids]
        asked_at = self._clock.monotonic()
        runs = await self._api.filter_runs({"flow_runs": {"id": {"any_": wanted}}})
        await self._apply(runs, asked_at=asked_at)
        for run_id in set(ids) - {run.id for run in runs}:
            self._store.mark_stale(run_id)  # only a read of the single run proves its deletion

    async def _apply(self, runs: Iterable[Run], *, asked_at: float) -> None:
        async for run in in_slices(runs):
            self._store.apply(run.id, run, asked_at=asked_at)
