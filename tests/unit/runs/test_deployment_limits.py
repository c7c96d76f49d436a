"""Which runs are left out because their deployment has no free slot."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.support.simulated_pool import due
from tests.support.snapshots import id_of
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.deployment_limits import (
    FULL_SECONDS,
    DeploymentLimits,
    limit_of,
    why_it_waits,
)

D, E = id_of("d"), id_of("e")
RUNS = [due("a"), due("b"), due("c")]


def document(limit: int, taken: int, *, id_: str = "limit", **more: Any) -> dict[str, Any]:
    counted = {"id": str(id_of(id_)), "limit": limit, "active_slots": taken, **more}
    return {"global_concurrency_limit": counted}


def admit(
    limits: DeploymentLimits,
    *documents: dict[str, Any],
    runs: list[Run] = RUNS,
    offered: tuple[UUID, ...] = (),
    now: float = 0.0,
) -> list[str]:
    found = dict(zip((D, E), documents, strict=False))
    return [run.name for run in limits.admit(runs, found, offered=offered, now=now)]


def test_as_many_runs_are_admitted_as_the_deployment_has_free_slots() -> None:
    assert admit(DeploymentLimits(), document(3, 1)) == ["a", "b"]


def test_open_offers_count_because_the_server_may_not_count_their_slots_yet() -> None:
    assert admit(DeploymentLimits(), document(3, 1), offered=(D,)) == ["a"]


def test_deployments_that_share_a_limit_share_its_slots() -> None:
    runs = [due("a"), due("b", deployment="e"), due("c")]
    shared = document(2, 0)
    assert admit(DeploymentLimits(), shared, shared, runs=runs) == ["a", "b"]


@pytest.mark.parametrize(
    "unlimited",
    [
        {},
        {"global_concurrency_limit": None},
        {"global_concurrency_limit": {"limit": "many"}},
        document(1, 1, slot_decay_per_second=0.1),
        document(1, 1) | {"concurrency_options": {"collision_strategy": "CANCEL_NEW"}},
    ],
    ids=["absent", "null", "malformed", "slots that decay", "one too many is cancelled"],
)
def test_without_a_limit_that_refuses_claims_every_run_is_admitted(
    unlimited: dict[str, Any],
) -> None:
    limits = DeploymentLimits()
    assert admit(limits, unlimited) == ["a", "b", "c"]
    assert limits.full(0) == frozenset()


@pytest.mark.parametrize("refusing", [document(0, 0), document(3, 0, active=False)])
def test_a_limit_of_0_or_an_inactive_one_admits_none(refusing: dict[str, Any]) -> None:
    assert admit(DeploymentLimits(), refusing) == []
    assert limit_of(refusing)


def test_a_deployment_without_a_free_slot_is_left_out_for_a_while() -> None:
    limits = DeploymentLimits()
    assert admit(limits, document(1, 1), document(1, 0, id_="other")) == []
    assert limits.full(FULL_SECONDS - 1) == {D}
    assert limits.full(FULL_SECONDS) == frozenset()


def test_a_deployment_whose_slots_only_our_own_offers_may_take_is_read_again() -> None:
    limits = DeploymentLimits()
    assert admit(limits, document(1, 1), offered=(D,)) == []
    assert limits.full(0) == frozenset()


def test_a_refused_claim_leaves_its_deployment_out() -> None:
    limits = DeploymentLimits()
    limits.claim_refused(D, 5)
    assert limits.full(5) == {D}


def test_after_a_refused_claim_one_run_is_admitted_until_a_claim_is_accepted() -> None:
    limits = DeploymentLimits()
    limits.claim_refused(D, 0)
    limits.slot_returned(D)
    assert admit(limits, document(3, 0, id_="d")) == ["a"]
    assert limits.claim_accepted(D)
    assert admit(limits, document(3, 1, id_="d")) == ["a", "b"]
    assert not limits.claim_accepted(D)


def test_the_end_of_a_run_frees_a_slot_of_every_deployment_that_shares_the_limit() -> None:
    limits = DeploymentLimits()
    admit(limits, document(1, 1), document(1, 1))
    assert limits.full(1) == {D, E}
    assert limits.slot_returned(E)
    assert limits.full(1) == frozenset()
    assert not limits.slot_returned(E)


def test_the_end_of_a_run_matters_if_another_run_was_left_out_for_its_slot() -> None:
    limits = DeploymentLimits()
    admit(limits, document(3, 0))
    assert not limits.slot_returned(D)
    admit(limits, document(2, 0))
    assert limits.slot_returned(D)


@pytest.mark.parametrize(
    ("deployment", "reason"),
    [
        (document(3, 3), "is reached: 3 of 3 slots are taken."),
        (document(0, 0), "is reached: 0 of 0 slots are taken."),
        (document(1, 0, active=False), "is not active."),
        (document(3, 2), ""),
        ({}, ""),
    ],
    ids=["full", "0", "inactive", "a slot is free", "no limit"],
)
def test_the_reason_why_runs_wait_names_the_limit_and_the_taken_slots(
    deployment: dict[str, Any], reason: str
) -> None:
    text = why_it_waits(deployment)
    assert reason in text
    assert bool(reason) == text.startswith("AwaitingConcurrencySlot: the concurrency limit")
