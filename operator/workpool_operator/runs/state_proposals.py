"""Reads runs from Prefect and writes them. Decides nothing.

Every answer goes into the store. The store recognizes a claim and its sub-states by their
transition ids and by nothing else (docs/races.md, 3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import (
    OperatorError,
    PrefectNotFound,
    PrefectRefused,
    PrefectThrottled,
    PrefectUnavailable,
)
from workpool_operator.jobs.diagnosis import WaitReason
from workpool_operator.logs import first_line
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import (
    TRACEPARENT_LABEL,
    Run,
    SetStateResult,
    State,
)
from workpool_operator.prefect_api.run_logs import RunLogSender
from workpool_operator.runs.claims import (
    Claim,
    Owner,
    count_retries,
    find_claim,
    is_stray_claim,
    is_stray_substate,
    overwritten_state,
)
from workpool_operator.runs.deployment_limits import LEASE_SECONDS
from workpool_operator.runs.progress import TRACE_ID
from workpool_operator.runs.store import RunStore

log = logging.getLogger(__name__)


class StateProposals:
    """Reads and changes runs on the server; what it did goes to the run's log through `run_log`.

    `claim_refused(run, until, why)` is called for a refused claim if Prefect gave the run no later
    time.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        api: PrefectApi,
        run_log: RunLogSender,
        store: RunStore,
        claim_refused: Callable[[Run, datetime, str], None] = lambda *_: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._owner = owner
        self._claim_refused = claim_refused
        self._api = api
        self._run_log = run_log
        self.store = store
        self._clock = clock

    # Reads

    async def read(self, run_id: UUID) -> None:
        """Read the run.

        Raises:
            PrefectUnavailable: Prefect did not answer, or answered 404 and does not have our pool:
                it may be another server, or one that lost its data.
        """
        asked_at = self._clock.monotonic()
        run = await self._api.read_run(run_id)
        if run is None:
            await self.check_pool()
        known = self.store.of(run_id).claim
        self.store.apply(run_id, run, asked_at=asked_at)
        if known is None:
            self._log_claim(run_id)

    async def check_pool(self) -> None:
        """Check that the server has our pool: only then does a 404 prove that a run was deleted.

        Raises:
            PrefectUnavailable: the server does not answer with our pool's id.
        """
        try:
            found = (await self._api.work_pool()).id
        except PrefectRefused as refused:
            raise PrefectUnavailable(f"the work pool cannot be read: {refused}") from refused
        if found != self._owner.pool_id:
            raise PrefectUnavailable(
                f"work pool {self._api.pool!r} has id {found}, not {self._owner.pool_id}: a 404 "
                "from this server does not prove that a run of the pool was deleted"
            )

    async def read_history(self, run_id: UUID) -> None:
        """Find in the run's states the claim under which it runs or waits."""
        record = self.store.of(run_id)
        run, state = record.run, record.state
        if run is None or state is None:
            await self.read(run_id)
            return
        history = await self._api.history(run_id)
        record = self.store.of(run_id)
        if record.state != state:
            return  # the state changed meanwhile
        mine = self.store.transition_ids(run_id)
        record = replace(
            record.with_claim(find_claim(run, history, mine)),
            infrastructure_retries=count_retries(history, mine),
        )
        if record.claim is not None:
            stray = state.type == "PENDING" and is_stray_claim(state, record.claim)
            record = replace(record, stray_claim=stray)
        elif is_stray_substate(state, history, mine):
            record = replace(record, stray_claim=True)
        else:
            record = record.mark_foreign()
        self.store.put(run_id, record)

    # Claims

    async def claim(self, run_id: UUID) -> None:
        """Propose PENDING. The claim succeeded if the answer's state is PENDING with our transition
        id, whatever the answer's status, unless other processes use that id, too."""
        proposal = {
            "type": "PENDING",
            "name": "Pending",
            "state_details": {"transition_id": str(self._owner.transition_id(run_id))},
        }
        asked_at = self._clock.monotonic()
        try:
            answer = await self._propose(run_id, proposal)
        except PrefectThrottled:
            raise
        except PrefectUnavailable:
            self.store.update(run_id, claimed_here=True)
            raise
        except PrefectNotFound:
            raise
        except PrefectRefused as refused:
            self._defer(run_id, None, why=str(refused))
            raise
        # Also if a read overtook the answer: the next one shows the claim.
        self.store.update(run_id, claimed_here=self._owner.is_granted(answer))
        record = self.store.of(run_id)
        if record.claim is not None:
            self.store.update(run_id, lease_renewed_at=asked_at)
        if answer.state.type == "SCHEDULED":
            self._defer(run_id, answer.state, why=f"{answer.status}: {answer.reason}")
        else:
            self._log_claim(run_id)

    async def revert_claim(self, run_id: UUID) -> None:
        """Restore the state that a late state of ours overwrote, with its data (docs/races.md,
        1)."""
        state = self.store.of(run_id).state
        history = await self._api.history(run_id)
        mine = self.store.transition_ids(run_id)
        before = overwritten_state(state, history, mine) if state else None
        if before is None:
            self.store.put(run_id, self.store.of(run_id).mark_foreign())
            return
        await self.restore(run_id, before)

    async def restore(self, run_id: UUID, state: State) -> None:
        """Propose a state again that was overwritten."""
        proposal: dict[str, Any] = {
            "type": state.type,
            "name": state.name,
            "message": state.message,
            "data": state.data,
        }
        if (due := state.state_details.scheduled_time) and state.type == "SCHEDULED":
            proposal["state_details"] = {"scheduled_time": due.isoformat()}
        answer = await self._propose(run_id, proposal)
        if answer.accepted:
            self._run_log.write(run_id, f"Restored the run's state {state.name}.")
            log.info("run %s: restored its state %s", run_id, state.name)

    async def renew_lease(self, run_id: UUID, lease_id: UUID) -> None:
        """Keep the deployment's concurrency slot that came with the claim.

        A lost slot is not requested again: the server takes another when the run starts.
        """
        asked_at = self._clock.monotonic()
        try:
            await self._api.renew_lease(lease_id, seconds=LEASE_SECONDS)
        except PrefectRefused as refused:
            await self.read(run_id)
            record = self.store.of(run_id)
            if record.claim is not None and record.state_type == "PENDING":
                log.warning("run %s lost its deployment's concurrency slot: %s", run_id, refused)
                lost = replace(record, lost_lease=lease_id)
                self.store.put(run_id, lost.with_claim(record.claim))
            return
        self.store.update(run_id, lease_renewed_at=asked_at)

    # Progress and ends

    async def record_infrastructure_pid(self, run_id: UUID, pid: str) -> None:
        """Write `infrastructure_pid`."""
        await self._change(run_id, infrastructure_pid=pid)

    async def hand_over_trace(self, run_id: UUID, traceparent: str) -> None:
        """Have the flow's own span become a child of the claim's, by the label from which Prefect
        takes its parent; one of another trace stays."""
        run = self.store.of(run_id).run
        if run is None or not traceparent or run.traceparent == traceparent:
            return
        if run.traceparent and run.traceparent[TRACE_ID] != traceparent[TRACE_ID]:
            return
        try:
            await self._api.update_run_labels(run_id, {TRACEPARENT_LABEL: traceparent})
            self.store.amend(run_id, traceparent=traceparent)
        except OperatorError as error:  # a trace only explains
            log.debug("the flow of run %s starts a trace of its own: %s", run_id, error)

    async def reschedule(self, run: Run) -> None:
        """Have polls return a run whose process was to retry it and has ended."""
        policy = {**run.empirical_policy, "retry_type": "reschedule"}
        await self._change(run.id, empirical_policy=policy)
        log.info("run %s is scheduled again: the process that was to retry it has ended", run.id)

    async def name_substate(
        self, run_id: UUID, claim: Claim, name: str, message: str | None = None
    ) -> SetStateResult:
        """Name the PENDING state of the claim."""
        proposal = {
            "type": "PENDING",
            "name": name,
            "message": message,
            "state_details": {"transition_id": str(claim.substate_id(name))},
        }
        return await self._propose(run_id, proposal)

    async def report_waiting(self, run_id: UUID, wait: WaitReason, claim: Claim) -> None:
        """Report what the run waits for, as the name of the claim's sub-state."""
        answer = await self.name_substate(run_id, claim, wait.category, wait.message)
        if answer.accepted and not self.store.of(run_id).stray_claim:
            text = f"{wait.category}: {wait.message}"
            self._run_log.write(run_id, text, level=wait.level)
            log.info("run %s waits: %s", run_id, first_line(text))

    async def postpone(self, run_id: UUID, wait: WaitReason, *, delay: float) -> None:
        """Make the run SCHEDULED again, due in `delay` seconds."""
        due = self._clock.now() + timedelta(seconds=delay)
        details = {"scheduled_time": due.isoformat()}
        if (claim := self.store.of(run_id).claim) is not None:
            details["transition_id"] = str(claim.substate_id(wait.category))
        proposal = {
            "type": "SCHEDULED",
            "name": wait.category,
            "message": wait.message,
            "state_details": details,
        }
        answer = await self._propose(run_id, proposal)
        if answer.accepted:
            self.store.update(run_id, not_before=due)
            text = f"{wait.category}: {wait.message}"
            self._run_log.write(run_id, text, level=logging.WARNING)
            log.info("run %s is scheduled again: %s", run_id, first_line(text))

    async def cancel(self, run_id: UUID) -> None:
        """Propose CANCELLING. Prefect makes it CANCELLED if the run has no infrastructure."""
        message = f"WorkPoolBinding {self._owner.binding} is being deleted, and cancels its runs."
        proposal = {"type": "CANCELLING", "name": "Cancelling", "message": message}
        answer = await self._propose(run_id, proposal)
        if answer.accepted:
            self._run_log.write(run_id, message, level=logging.WARNING)
            log.info("run %s is cancelled: its binding is being deleted", run_id)

    async def report_crashed(self, run_id: UUID, message: str) -> None:
        """End the run Crashed."""
        proposal = {"type": "CRASHED", "name": "Crashed", "message": message}
        await self._finish(run_id, proposal, level=logging.ERROR)

    async def report_cancelled(self, run_id: UUID, message: str) -> None:
        """End the run Cancelled."""
        proposal = {"type": "CANCELLED", "name": "Cancelled", "message": message}
        await self._finish(run_id, proposal, level=logging.INFO)

    def log(self, run_id: UUID, fact: str, *, level: int = logging.ERROR) -> None:
        """Write `fact` to the run's log, unless it is empty. The state does not change."""
        if fact:
            self._run_log.write(run_id, fact, level=level)

    def _log_claim(self, run_id: UUID) -> None:
        """Log the claim that this process made, also if its answer was lost."""
        record = self.store.of(run_id)
        if record.claimed_here and record.claim and record.state_type == "PENDING":
            log.info("run %s (%s) is claimed", run_id, record.name)

    def _defer(self, run_id: UUID, state: State | None, *, why: str) -> None:
        before = self.store.of(run_id)
        record = before.defer(state, wall=self._clock.now())
        self.store.put(run_id, record)
        level = logging.DEBUG if before.refused_claims else logging.INFO  # not for each attempt
        until = record.not_before.isoformat(timespec="seconds") if record.not_before else ""
        text = "run %s is not claimed: %s; tried again from %s on"
        log.log(level, text, run_id, first_line(why), until)
        known = state.state_details.scheduled_time if state else None
        if record.run and record.not_before and record.not_before != known:
            self._claim_refused(record.run, record.not_before, why)

    async def _finish(self, run_id: UUID, proposal: dict[str, str], *, level: int) -> None:
        answer = await self._propose(run_id, proposal)
        if answer.accepted:
            message = proposal["message"]
            self._run_log.write(run_id, message, level=level)
            log.info("run %s ended %s: %s", run_id, proposal["name"], first_line(message))

    async def _propose(self, run_id: UUID, proposal: dict[str, Any]) -> SetStateResult:
        asked_at = self._clock.monotonic()
        try:
            answer = await self._api.set_state(run_id, proposal)
        except PrefectThrottled:
            raise
        except PrefectUnavailable:
            self.store.mark_unknown(run_id)
            raise
        run = self.store.of(run_id).run
        if run is None:
            self.store.mark_stale(run_id)
        else:
            state = run.with_state(answer.state)
            self.store.apply(run_id, state, asked_at=asked_at, wrote=True)
        return answer

    async def _change(self, run_id: UUID, **fields: Any) -> None:
        await self._api.update_run(run_id, fields)
        self.store.amend(run_id, **fields)
