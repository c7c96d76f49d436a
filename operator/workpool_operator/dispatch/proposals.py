"""What is said to Prefect about a run, and what its answers prove. Decides nothing.

Every answer goes into the ledger; a claim, and the sub-states that stand for it, are known by their
transition ids and by nothing else (docs/races.md, 3).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Set
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from workpool_operator.dispatch import retries
from workpool_operator.dispatch.claims import (
    Claim,
    find_claim,
    is_phantom,
    is_stray_substate,
    predecessor_of,
)
from workpool_operator.dispatch.ledger import Record
from workpool_operator.dispatch.place import Place
from workpool_operator.errors import PrefectNotFound, PrefectRefused, PrefectUnavailable
from workpool_operator.jobs.verdict import Wait
from workpool_operator.kube.views import Job
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.runlog import RunLog
from workpool_operator.prefect_api.views import Answer, Run, State

log = logging.getLogger(__name__)

LEASE_SECONDS = 300


class Proposals:
    """The reconciler's voice; `runlog` tells the run's readers what was done, `jobs_of` are a run's
    Jobs, also those that are gone."""

    def __init__(
        self,
        place: Place,
        *,
        api: PrefectApi,
        runlog: RunLog,
        jobs_of: Callable[[UUID], Iterable[Job]] = lambda _: (),
    ) -> None:
        self._place = place
        self._api = api
        self._runlog = runlog
        self._jobs_of = jobs_of

    # What is known

    async def read(self, run_id: UUID, record: Record) -> None:
        """Hear the run's state.

        Raises:
            PrefectUnavailable: also where the run is said to be unknown by a server that does not
                have our pool: it may be another, or one that lost its data.
        """
        asked_at = time.monotonic()
        run = await self._api.read_run(run_id)
        if run is None:
            await self.check_pool()
        self.heard(record, run, asked_at=asked_at)

    async def check_pool(self) -> None:
        """Only the server that has our pool can say that a run is gone.

        Raises:
            PrefectUnavailable: it does not answer with our pool's id.
        """
        try:
            found = (await self._api.work_pool()).id
        except PrefectRefused as refused:
            raise PrefectUnavailable(f"the work pool is not to be seen: {refused}") from refused
        if found != self._place.pool_id:
            raise PrefectUnavailable(
                f"work pool {self._api.pool!r} has id {found}, not {self._place.pool_id}: what the "
                "server says of runs that it does not know says nothing of those of this pool"
            )

    def heard(
        self, record: Record, run: Run | None, *, asked_at: float, wrote: bool = False
    ) -> None:
        """Take a full answer about the run into the ledger, unless it knows better by now."""
        claim, now = record.claim, time.monotonic()
        if not record.heard(run, asked_at=asked_at, now=now, wrote=wrote):
            if wrote:  # a read overtook our own change: which of the two is newer, nobody knows
                record.doubt(now)
            return
        if run is not None and run.state is not None and run.state_type == "PENDING":
            self._recognise(record, run.state, claim)

    def _recognise(self, record: Record, state: State, claim: Claim | None) -> None:
        """A PENDING state is ours by its transition id: the claim's own, or a sub-state's of it."""
        assert record.run is not None
        proof = state.state_details.transition_id
        if proof in self._mine(record.run.id):
            record.claimed(Claim.of(state))
        elif claim is None or proof != claim.substate_id(state.name):
            record.claim = None
        record.phantom = record.claim is not None and is_phantom(state, record.claim)

    def _mine(self, run_id: UUID) -> Set[UUID]:
        """The transition ids of our claims on the run."""
        return self._place.transition_ids(run_id, self._jobs_of(run_id))

    async def read_history(self, run_id: UUID, record: Record) -> None:
        """Learn from the run's states whose claim it runs, or waits, under."""
        if record.run is None or record.run.state is None:
            await self.read(run_id, record)
            return
        run, state = record.run, record.run.state
        history = await self._api.history(run_id)
        if record.run.state != state:
            return  # it moved on meanwhile
        mine = self._mine(run_id)
        record.claimed(find_claim(run, history, mine))
        record.infrastructure_retries = retries.count(history, mine)
        if record.claim is not None:
            record.phantom = state.type == "PENDING" and is_phantom(state, record.claim)
        elif is_stray_substate(state, history, mine):
            record.phantom = True
        else:
            record.disown()

    # Claims

    async def claim(self, run_id: UUID, record: Record) -> None:
        """Mine if the answer's state is PENDING with my transition id, whatever its status."""
        proposal = {
            "type": "PENDING",
            "name": "Pending",
            "state_details": {"transition_id": str(self._place.transition_id(run_id))},
        }
        asked_at = time.monotonic()
        try:
            answer = await self._propose(run_id, record, proposal)
        except PrefectNotFound:
            raise
        except PrefectRefused:
            record.claim_refused(None, wall=datetime.now(UTC))
            raise
        if record.claim is not None:
            record.lease_renewed_at = asked_at
        if answer.state.type == "SCHEDULED":
            record.claim_refused(answer.state, wall=datetime.now(UTC))
            log.debug("run %s was not claimed: %s: %s", run_id, answer.status, answer.reason)

    async def undo_claim(self, run_id: UUID, record: Record) -> None:
        """Put back what a late state of ours wrote over, with its data (docs/races.md, 1)."""
        assert record.run is not None and record.run.state is not None
        history = await self._api.history(run_id)
        before = predecessor_of(record.run.state, history, self._mine(run_id))
        if before is None:
            record.disown()
            return
        await self.restore(run_id, record, before)

    async def restore(self, run_id: UUID, record: Record, state: State) -> None:
        """Propose a state again that something wrote over."""
        proposal: dict[str, Any] = {
            "type": state.type,
            "name": state.name,
            "message": state.message,
            "data": state.data,
        }
        if (due := state.state_details.scheduled_time) and state.type == "SCHEDULED":
            proposal["state_details"] = {"scheduled_time": due.isoformat()}
        answer = await self._propose(run_id, record, proposal)
        if answer.accepted:
            self._runlog.write(run_id, f"Restored the run's state {state.name}.")

    async def renew_lease(self, run_id: UUID, record: Record) -> None:
        """Keep the deployment's concurrency slot that came with the claim.

        A slot that was lost is not asked for again: the server takes another when the run starts.
        """
        claim, asked_at = record.claim, time.monotonic()
        assert claim is not None and claim.lease_id is not None
        try:
            await self._api.renew_lease(claim.lease_id, seconds=LEASE_SECONDS)
        except PrefectRefused as refused:
            await self.read(run_id, record)
            if record.claim is not None and record.state_type == "PENDING":
                log.warning(
                    "run %s: its deployment's concurrency slot was lost: %s", run_id, refused
                )
                record.lost_lease = claim.lease_id
                record.claimed(record.claim)
            return
        record.lease_renewed_at = asked_at

    # What became of it

    async def record_job(self, run_id: UUID, record: Record, name: str) -> None:
        """Tell Prefect where the run is."""
        pid = f"{self._place.namespace}:{name}"
        await self._change(run_id, record, infrastructure_pid=pid)

    async def reschedule(self, run_id: UUID, record: Record) -> None:
        """Have polls return a run that was to be retried by a process that is gone."""
        assert record.run is not None
        policy = {**record.run.empirical_policy, "retry_type": "reschedule"}
        await self._change(run_id, record, empirical_policy=policy)

    async def explain(self, run_id: UUID, record: Record, wait: Wait) -> None:
        """Name the sub-state by what the run waits for."""
        assert record.claim is not None
        proposal = {
            "type": "PENDING",
            "name": wait.category,
            "message": wait.message,
            "state_details": {"transition_id": str(record.claim.substate_id(wait.category))},
        }
        answer = await self._propose(run_id, record, proposal)
        if answer.accepted and not record.phantom:
            self._runlog.write(run_id, f"{wait.category}: {wait.message}", level=wait.level)

    async def put_back(self, run_id: UUID, record: Record, wait: Wait, *, delay: float) -> None:
        """Make the run SCHEDULED again, due in `delay` seconds."""
        due = datetime.now(UTC) + timedelta(seconds=delay)
        details = {"scheduled_time": due.isoformat()}
        if record.claim is not None:
            details["transition_id"] = str(record.claim.substate_id(wait.category))
        proposal = {
            "type": "SCHEDULED",
            "name": wait.category,
            "message": wait.message,
            "state_details": details,
        }
        answer = await self._propose(run_id, record, proposal)
        if answer.accepted:
            record.not_before = due
            self._runlog.write(run_id, f"{wait.category}: {wait.message}", level=logging.WARNING)

    async def crash(self, run_id: UUID, record: Record, message: str) -> None:
        """End the run Crashed."""
        proposal = {"type": "CRASHED", "name": "Crashed", "message": message}
        await self._finish(run_id, record, proposal, level=logging.ERROR)

    async def cancel(self, run_id: UUID, record: Record, message: str) -> None:
        """End the run Cancelled."""
        proposal = {"type": "CANCELLED", "name": "Cancelled", "message": message}
        await self._finish(run_id, record, proposal, level=logging.INFO)

    def note(self, run_id: UUID, fact: str, *, level: int = logging.ERROR) -> None:
        """Tell the run's readers a fact, if there is one, without a change of state."""
        if fact:
            self._runlog.write(run_id, fact, level=level)

    async def _finish(
        self, run_id: UUID, record: Record, proposal: dict[str, str], *, level: int
    ) -> None:
        answer = await self._propose(run_id, record, proposal)
        if answer.accepted:
            message = proposal["message"]
            self._runlog.write(run_id, message, level=level)
            log.info("run %s ended %s: %s", run_id, proposal["name"], message.split("\n")[0])

    async def _propose(self, run_id: UUID, record: Record, proposal: dict[str, Any]) -> Answer:
        asked_at = time.monotonic()
        answer = await self._api.set_state(run_id, proposal)
        if record.run is None:
            record.doubt(time.monotonic())
        else:
            run = record.run.in_state(answer.state)
            self.heard(record, run, asked_at=asked_at, wrote=True)
        return answer

    async def _change(self, run_id: UUID, record: Record, **fields: Any) -> None:
        await self._api.update_run(run_id, fields)
        if record.run is not None:
            record.run = record.run.changed(**fields)
