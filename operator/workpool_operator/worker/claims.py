"""A worker's claims on runs, each provable by its transition id (docs/races.md, 3).

Prefect's own worker proposes Pending under a random id: killed before its Job exists, it leaves a
run that nobody knows to be its own. Here the id is computed, so that the next worker of the pool
knows the claim, and two of them make one Job under one name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.state_proposals import StateProposals
from workpool_operator.dispatch.store import RunRecord, RunStore
from workpool_operator.errors import OperatorError, PrefectRefused, PrefectUnavailable
from workpool_operator.prefect_api.client import PAGE_SIZE, PrefectApi
from workpool_operator.prefect_api.runlog import RunLog
from workpool_operator.prefect_api.views import Answer, Run
from workpool_operator.worker.patience import until_answered

log = logging.getLogger(__name__)

STATE_AGE_SECONDS = 2.0  # a claim on an older state may re-run a finished run (docs/races.md, 2)
UNSETTLED = ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]
SUBMITTING = "Submitting"


class Claims:
    """One pool's, on one server, from one cluster."""

    def __init__(self, place: Place, *, api: PrefectApi, runlog: RunLog) -> None:
        self._place = place
        self._api = api
        self._runlog = runlog

    def _proposals(self) -> StateProposals:
        """With a memory of their own, which knows nothing yet."""
        store = RunStore(lambda run_id: {self._place.transition_id(run_id)})
        return StateProposals(self._place, api=self._api, runlog=self._runlog, store=store)

    async def make(self, run: Run, *, heard_at: float) -> RunRecord | None:
        """Claim the run, whose state was heard then; None where it is not to be had.

        Without an answer the run is read before it is claimed again, until it is known whether the
        claim holds.
        """
        proposals, sent = self._proposals(), False
        store = proposals.store
        ids = store.transition_ids(run.id)
        known = RunRecord().apply(run, asked_at=heard_at, now=heard_at, transition_ids=ids)
        store.put(run.id, known)

        async def attempt() -> RunRecord | None:
            nonlocal sent
            record = store.of(run.id)
            if record.is_stale or time.monotonic() - record.answered_at > STATE_AGE_SECONDS:
                await proposals.read(run.id)
                record = store.of(run.id)
            if record.state_type != "SCHEDULED":  # a claim whose answer was lost is ours
                return record if sent and record.claim and not record.stray_claim else None
            sent = True
            return await self._claim(proposals, run.id)

        return await until_answered(attempt, about=f"run {run.id}: its claim")

    async def _claim(self, proposals: StateProposals, run_id: UUID) -> RunRecord | None:
        """The record if this very request made the claim: the worker beside us has the same id."""
        store, proof = proposals.store, self._place.transition_id(run_id)
        answer = await self._say(store, run_id, name="Pending", transition_id=proof)
        if store.of(run_id).stray_claim and answer.accepted:
            await proposals.undo_claim(run_id)
            return None
        if not answer.accepted or store.of(run_id).claim is None:
            log.info("run %s is not to be had: %s", run_id, answer.reason or answer.state.name)
            return None
        store.put(run_id, replace(store.of(run_id), lease_renewed_at=time.monotonic()))
        return store.of(run_id)

    async def take(self, run_id: UUID) -> RunRecord | None:
        """Claim a run that no poll brought, also one that a client keeps PENDING."""
        asked_at = time.monotonic()
        run = await self._api.read_run(run_id)
        if run and run.state_type == "PENDING":
            await self.schedule(run_id)
            asked_at = time.monotonic()
            run = await self._api.read_run(run_id)
        return await self.make(run, heard_at=asked_at) if run else None

    async def submitting(self, record: RunRecord) -> RunRecord:
        """Name the sub-state as Prefect's workers do, and return the record after it; nothing
        depends on it."""
        if (claimed := record.claimed_run) is None:
            return record
        run_id, store = claimed.run.id, self._proposals().store
        store.put(run_id, record)
        try:
            proof = claimed.claim.substate_id(SUBMITTING)
            await self._say(store, run_id, name=SUBMITTING, transition_id=proof)
        except OperatorError as error:
            log.debug("run %s is not called %s: %s", run_id, SUBMITTING, error)
        return store.of(run_id)

    async def _say(
        self, store: RunStore, run_id: UUID, *, name: str, transition_id: UUID
    ) -> Answer:
        details = {"transition_id": str(transition_id)}
        proposal: dict[str, Any] = {"type": "PENDING", "name": name, "state_details": details}
        asked_at = time.monotonic()
        try:
            answer = await self._api.set_state(run_id, proposal)
        except PrefectUnavailable:
            store.mark_stale(run_id)
            raise
        if (run := store.of(run_id).run) is not None:
            store.apply(run_id, run.in_state(answer.state), asked_at=asked_at, wrote=True)
        return answer

    async def crash(self, run_id: UUID, message: str, *, claim_id: UUID | None) -> bool:
        """End the run Crashed unless it has ended, was rescheduled, is suspended, or goes on under
        another claim than the one that is reported on, if it is known; whether."""

        async def attempt() -> bool:
            proposals = self._proposals()
            await proposals.read(run_id)
            if proposals.store.of(run_id).state_type not in ("PENDING", "RUNNING"):
                return False
            if claim_id and await self._claim_of(proposals, run_id) != claim_id:
                return False
            await proposals.crash(run_id, message)
            return proposals.store.of(run_id).state_type == "CRASHED"

        try:
            return await until_answered(attempt, about=f"run {run_id}: its end")
        except PrefectRefused as refused:
            log.warning("run %s cannot be ended: %s", run_id, refused)
            return False

    @staticmethod
    async def _claim_of(proposals: StateProposals, run_id: UUID) -> UUID | None:
        """The id of the claim of ours that the run is under now."""
        if proposals.store.of(run_id).claim is None:
            await proposals.read_history(run_id)
        claim = proposals.store.of(run_id).claim
        return claim.id if claim else None

    async def schedule(self, run_id: UUID) -> None:
        """Hand a run that a client keeps PENDING to the pool, from where it is claimed."""
        await self._api.set_state(run_id, {"type": "SCHEDULED", "name": "Scheduled"})

    @staticmethod
    def namespace_of(record: RunRecord) -> str:
        """Where the Job of the claim is, as far as it is recorded: a run may still have the
        `infrastructure_pid` of an earlier attempt."""
        if (claimed := record.claimed_run) is None:
            return ""
        namespace, _, name = (claimed.run.infrastructure_pid or "").partition(":")
        return namespace if claimed.claim.made(name, run_id=claimed.run.id) else ""

    async def unfinished(self) -> AsyncIterator[RunRecord]:
        """The pool's runs that a worker of it has claimed from here and that have not ended."""
        where: dict[str, Any] = {
            "work_pools": {"id": {"any_": [str(self._place.pool_id)]}},
            "flow_runs": {"state": {"type": {"any_": UNSETTLED}}},
            "sort": "ID_DESC",
        }
        offset = 0
        while True:
            asked_at = time.monotonic()
            page = await self._api.filter_runs({**where, "offset": offset})
            for run in page:
                if record := await self._recognise(run, asked_at):
                    yield record
            if len(page) < PAGE_SIZE:
                return
            offset += len(page)

    async def _recognise(self, run: Run, asked_at: float) -> RunRecord | None:
        """The run's record if its last claim is one of ours."""
        proposals = self._proposals()
        store = proposals.store
        store.apply(run.id, run, asked_at=asked_at)
        if store.of(run.id).claim is None and run.state_name != "Pending":
            await proposals.read_history(run.id)  # a Pending names its owner
        if store.of(run.id).stray_claim:
            await proposals.undo_claim(run.id)
            return None
        return store.of(run.id) if store.of(run.id).claim else None
