"""What a proposal's answer proves, whatever else is read of the run meanwhile."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.controller import OWNER
from tests.support.snapshots import MINE, RUN_ID, pending, run
from workpool_operator.errors import PrefectUnavailable
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run, SetStateResult
from workpool_operator.prefect_api.run_logs import RunLogSender
from workpool_operator.runs.state_proposals import StateProposals
from workpool_operator.runs.store import RunStore

WORKER = replace(OWNER, namespace="", shares_transition_ids=True)


class OvertakenApi:
    """Answers a claim with `status`, or not at all; a read of the earlier state finishes before."""

    def __init__(self, store: RunStore, status: str | None) -> None:
        self._store, self._status = store, status

    async def set_state(self, run_id: UUID, proposal: dict[str, Any]) -> SetStateResult:
        self._store.apply(run_id, run("SCHEDULED"), asked_at=time.monotonic())
        self.next_read_at = time.monotonic()  # and is answered after the claim
        if self._status is None:
            raise PrefectUnavailable("no answer")
        return SetStateResult(self._status, pending())

    async def read_run(self, run_id: UUID) -> Run:
        return run(pending())


@pytest.mark.parametrize(("status", "is_ours"), [("ACCEPT", True), ("ABORT", False), (None, True)])
async def test_a_claim_counts_as_it_was_answered_although_reads_of_the_earlier_state_overtake_it(
    status: str | None, is_ours: bool
) -> None:
    store = RunStore(lambda _: {UUID(str(MINE))})
    store.apply(RUN_ID, run("SCHEDULED"), asked_at=time.monotonic())
    server = OvertakenApi(store, status)
    api = cast("PrefectApi", server)
    proposals = StateProposals(WORKER, api=api, run_log=RunLogSender(api), store=store)
    with suppress(PrefectUnavailable):
        await proposals.claim(RUN_ID)
    assert store.of(RUN_ID).is_stale
    assert not store.apply(RUN_ID, run("SCHEDULED"), asked_at=server.next_read_at)
    await proposals.read(RUN_ID)
    record = store.of(RUN_ID)
    assert record.claim is not None
    assert record.claimed_here is is_ours


class LabelledApi:
    """Keeps the labels that are written; refuses them if `refuses`."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.labels: list[dict[str, str]] = []
        self._refuses = refuses

    async def update_run_labels(self, _: UUID, labels: dict[str, str]) -> None:
        if self._refuses:
            raise PrefectUnavailable("no answer")
        self.labels.append(labels)


OWN = f"00-{RUN_ID.hex}-{'a' * 16}-01"
OF_A_PARENT = f"00-{'c' * 32}-{'d' * 16}-01"


@pytest.mark.parametrize(
    ("known", "given", "written"),
    [
        ("", OWN, 1),
        ("", "", 0),  # not traced
        (OWN, OWN, 0),  # after a restart
        (f"00-{RUN_ID.hex}-{'b' * 16}-01", OWN, 1),  # of an earlier claim
        (OF_A_PARENT, OF_A_PARENT[:36] + OWN[36:], 1),  # this claim, in the parent's trace
        (OF_A_PARENT, OWN, 0),  # found halfway: another trace stays
    ],
)
async def test_the_flow_gets_the_context_of_the_claim_once_unless_it_is_of_another_trace(
    known: str, given: str, written: int
) -> None:
    server, store = LabelledApi(), RunStore(lambda _: {UUID(str(MINE))})
    store.apply(RUN_ID, replace(run(pending()), traceparent=known), asked_at=time.monotonic())
    api = cast("PrefectApi", server)
    proposals = StateProposals(OWNER, api=api, run_log=RunLogSender(api), store=store)
    for _ in range(2):
        await proposals.hand_over_trace(RUN_ID, given)
    assert server.labels == [{"__OTEL_TRACEPARENT": given}] * written


async def test_a_trace_that_cannot_be_handed_over_delays_nothing() -> None:
    server, store = LabelledApi(refuses=True), RunStore(lambda _: {UUID(str(MINE))})
    store.apply(RUN_ID, run(pending()), asked_at=time.monotonic())
    api = cast("PrefectApi", server)
    proposals = StateProposals(OWNER, api=api, run_log=RunLogSender(api), store=store)
    await proposals.hand_over_trace(RUN_ID, OWN)
    assert not store.of(RUN_ID).is_stale
