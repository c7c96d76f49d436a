"""A worker's claims on runs, each provable by its transition id (docs/races.md, 3).

Prefect's own worker proposes Pending under a random id: killed before its Job exists, it leaves a
run that nobody knows to be its own. Here the id is computed, so that the next worker of the pool
knows the claim, and two of them make one Job under one name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from workpool_operator.dispatch.ledger import Record
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.proposals import Proposals
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
        self._proposals = Proposals(place, api=api, runlog=runlog)

    async def make(self, run: Run, *, heard_at: float) -> Record | None:
        """Claim the run, whose state was heard then; None where it is not to be had.

        Without an answer the run is read before it is claimed again, until it is known whether the
        claim holds.
        """
        record, sent = Record(), False
        record.heard(run, asked_at=heard_at, now=heard_at)

        async def attempt() -> Record | None:
            nonlocal sent
            if record.stale or time.monotonic() - record.heard_at > STATE_AGE_SECONDS:
                await self._proposals.read(run.id, record)
            if record.state_type != "SCHEDULED":  # a claim whose answer was lost is ours
                return record if sent and record.claim and not record.phantom else None
            sent = True
            return await self._claim(record, run.id)

        return await until_answered(attempt, about=f"run {run.id}: its claim")

    async def _claim(self, record: Record, run_id: UUID) -> Record | None:
        """The record if this very request made the claim: the worker beside us has the same id."""
        proof = self._place.transition_id(run_id)
        answer = await self._say(record, name="Pending", transition_id=proof)
        if record.phantom and answer.accepted:
            await self._proposals.undo_claim(run_id, record)
            return None
        if not answer.accepted or record.claim is None:
            log.info("run %s is not to be had: %s", run_id, answer.reason or answer.state.name)
            return None
        record.lease_renewed_at = time.monotonic()
        return record

    async def take(self, run_id: UUID) -> Record | None:
        """Claim a run that no poll brought, also one that a client keeps PENDING."""
        asked_at = time.monotonic()
        run = await self._api.read_run(run_id)
        if run and run.state_type == "PENDING":
            await self.schedule(run_id)
            asked_at = time.monotonic()
            run = await self._api.read_run(run_id)
        return await self.make(run, heard_at=asked_at) if run else None

    async def submitting(self, record: Record) -> None:
        """Name the sub-state as Prefect's workers do; nothing depends on it."""
        assert record.run is not None and record.claim is not None
        try:
            proof = record.claim.substate_id(SUBMITTING)
            await self._say(record, name=SUBMITTING, transition_id=proof)
        except OperatorError as error:
            log.debug("run %s is not called %s: %s", record.run.id, SUBMITTING, error)

    async def _say(self, record: Record, *, name: str, transition_id: UUID) -> Answer:
        run = record.run
        assert run is not None
        details = {"transition_id": str(transition_id)}
        proposal: dict[str, Any] = {"type": "PENDING", "name": name, "state_details": details}
        asked_at = time.monotonic()
        try:
            answer = await self._api.set_state(run.id, proposal)
        except PrefectUnavailable:
            record.doubt(time.monotonic())
            raise
        self._proposals.heard(record, run.in_state(answer.state), asked_at=asked_at, wrote=True)
        return answer

    async def crash(self, run_id: UUID, message: str, *, claim_id: UUID | None) -> bool:
        """End the run Crashed unless it has ended, was rescheduled, is suspended, or goes on under
        another claim than the one that is reported on, if it is known; whether."""

        async def attempt() -> bool:
            record = Record()
            await self._proposals.read(run_id, record)
            if record.state_type not in ("PENDING", "RUNNING"):
                return False
            if claim_id and await self._claim_of(run_id, record) != claim_id:
                return False
            await self._proposals.crash(run_id, record, message)
            return record.state_type == "CRASHED"

        try:
            return await until_answered(attempt, about=f"run {run_id}: its end")
        except PrefectRefused as refused:
            log.warning("run %s cannot be ended: %s", run_id, refused)
            return False

    async def _claim_of(self, run_id: UUID, record: Record) -> UUID | None:
        """The id of the claim of ours that the run is under now."""
        if record.claim is None:
            await self._proposals.read_history(run_id, record)
        return record.claim.id if record.claim else None

    async def schedule(self, run_id: UUID) -> None:
        """Hand a run that a client keeps PENDING to the pool, from where it is claimed."""
        await self._api.set_state(run_id, {"type": "SCHEDULED", "name": "Scheduled"})

    @staticmethod
    def namespace_of(record: Record) -> str:
        """Where the Job of the claim is, as far as it is recorded: a run may still have the
        `infrastructure_pid` of an earlier attempt."""
        assert record.run is not None and record.claim is not None
        namespace, _, name = (record.run.infrastructure_pid or "").partition(":")
        return namespace if record.claim.made(name, run_id=record.run.id) else ""

    async def unfinished(self) -> AsyncIterator[Record]:
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

    async def _recognise(self, run: Run, asked_at: float) -> Record | None:
        """The run's record if its last claim is one of ours."""
        record = Record()
        self._proposals.heard(record, run, asked_at=asked_at)
        if record.claim is None and run.state_name != "Pending":  # a Pending names its owner
            await self._proposals.read_history(run.id, record)
        if record.phantom:
            await self._proposals.undo_claim(run.id, record)
            return None
        return record if record.claim else None
