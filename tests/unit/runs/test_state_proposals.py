"""What a proposal's answer proves, whatever else is read of the run meanwhile."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.controller import OWNER
from tests.support.snapshots import MINE, RUN_ID, pending, run
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run, SetStateResult
from workpool_operator.prefect_api.run_logs import RunLogSender
from workpool_operator.runs.state_proposals import StateProposals
from workpool_operator.runs.store import RunStore

WORKER = replace(OWNER, namespace="", shares_transition_ids=True)


class OvertakenApi:
    """Accepts a claim, and lets a read of the earlier state finish before it answers."""

    def __init__(self, store: RunStore, status: str) -> None:
        self._store, self._status = store, status

    async def set_state(self, run_id: UUID, proposal: dict[str, Any]) -> SetStateResult:
        self._store.apply(run_id, run("SCHEDULED"), asked_at=time.monotonic())
        return SetStateResult(self._status, pending())

    async def read_run(self, run_id: UUID) -> Run:
        return run(pending())


@pytest.mark.parametrize(("status", "is_ours"), [("ACCEPT", True), ("ABORT", False)])
async def test_a_claim_counts_as_it_was_answered_if_a_read_of_the_earlier_state_overtook_the_answer(
    status: str, is_ours: bool
) -> None:
    store = RunStore(lambda _: {UUID(str(MINE))})
    store.apply(RUN_ID, run("SCHEDULED"), asked_at=time.monotonic())
    api = cast("PrefectApi", OvertakenApi(store, status))
    proposals = StateProposals(WORKER, api=api, run_log=RunLogSender(api), store=store)
    await proposals.claim(RUN_ID)
    await proposals.read(RUN_ID)
    record = store.of(RUN_ID)
    assert record.claim is not None
    assert record.claimed_here is is_ours
