"""Reports that a worker makes itself, in addition to the controller's."""

from __future__ import annotations

import logging
from uuid import UUID

from workpool_operator.errors import OperatorError, PrefectRefused
from workpool_operator.retry import retry_unavailable
from workpool_operator.runs.controller import RunController

log = logging.getLogger(__name__)

SUBMITTING = "Submitting"


async def report_submitting(controller: RunController, run_id: UUID) -> None:
    """Name the PENDING state Submitting, as Prefect's workers do; nothing depends on it."""
    claimed = controller.store.of(run_id).claimed_run
    if claimed is None or claimed.run.state_name != "Pending":
        return
    try:
        await controller.proposals.name_substate(run_id, claimed.claim, SUBMITTING)
    except OperatorError as error:
        controller.store.mark_stale(run_id)
        log.debug("the state of run %s is not named %s: %s", run_id, SUBMITTING, error)


async def report_crashed(
    controller: RunController, run_id: UUID, message: str, *, claim_id: UUID | None
) -> bool:
    """Report the run Crashed; return whether its state changed.

    Nothing is reported if the run has ended, was rescheduled, is suspended, or is under another
    claim than `claim_id` (None: any).
    """

    async def attempt() -> bool:
        store, proposals = controller.store, controller.proposals
        await proposals.read(run_id)
        if store.of(run_id).state_type not in ("PENDING", "RUNNING"):
            return False
        if claim_id:
            if store.of(run_id).claim is None:
                await proposals.read_history(run_id)
            claim = store.of(run_id).claim
            if claim is None or claim.id != claim_id:
                return False
        await proposals.report_crashed(run_id, message)
        return store.of(run_id).state_type == "CRASHED"

    try:
        return await retry_unavailable(attempt, about=f"run {run_id}: its end")
    except PrefectRefused as refused:
        log.warning("run %s cannot be reported as crashed: %s", run_id, refused)
        return False
    finally:
        controller.enqueue(run_id)
