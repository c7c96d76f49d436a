"""Conditions: what holds, what fails, what nobody knows, and Ready and Claiming over them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from workpool_operator.binding import conditions as c
from workpool_operator.binding.conditions import (
    Conditions,
    ConditionState,
    ServingState,
    as_status,
    claiming,
    defect,
    events_connected,
    ready,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
SERVING = ServingState(synced=True)


def all_hold() -> Conditions:
    conditions = Conditions()
    for name in c.ORDER:
        conditions.set_true(name, "Fine", "")
    return conditions


def test_a_new_binding_knows_nothing_and_is_not_ready() -> None:
    verdicts = Conditions().states()
    assert list(verdicts) == list(c.ORDER)
    assert {verdict.status for verdict in verdicts.values()} == {"Unknown"}
    assert ready(verdicts, SERVING).reason == "Starting"


@pytest.mark.parametrize("failed", c.ORDER)
def test_what_comes_after_a_fault_is_unknown_and_what_came_before_stays(failed: str) -> None:
    conditions = all_hold()
    conditions.set_false(failed, "Broken", "mend it")
    position = c.ORDER.index(failed)
    verdicts = conditions.states()
    statuses = [verdict.status for verdict in verdicts.values()]
    unknown = len(c.ORDER) - position - 1
    assert statuses == ["True"] * position + ["False"] + ["Unknown"] * unknown
    for later in c.ORDER[position + 1 :]:
        assert verdicts[later].message == f"Known once {failed} is True."
    assert not conditions.all_true()
    assert conditions.has_fault()


def test_ready_is_false_for_the_reason_and_with_the_fix_of_the_fault() -> None:
    conditions = all_hold()
    conditions.set_false(c.WORK_POOL_FOUND, "WorkPoolNotFound", "create it")
    summary = ready(
        conditions.states(), ServingState(synced=True, suspended=True, pool_paused=True)
    )
    assert summary == ConditionState("False", "WorkPoolNotFound", "create it")


def test_a_fault_is_named_although_something_before_it_is_unknown() -> None:
    conditions = Conditions()
    conditions.set_true(c.SERVER_RESOLVED, "Resolved", "")
    conditions.set_false(c.SERVER_REACHABLE, "ConnectionFailed", "start it")
    assert conditions.states()[c.CREDENTIALS_VALID].message == "Not known yet."
    assert ready(conditions.states(), SERVING).reason == "ConnectionFailed"


@pytest.mark.parametrize(
    ("situation", "would_work", "claims", "reason"),
    [
        (ServingState(), "Unknown", "Unknown", "Starting"),
        (SERVING, "True", "True", "Polling"),
        (ServingState(synced=True, full_at=3), "True", "False", "AtCapacity"),
        (ServingState(synced=True, full_at=3, pool_paused=True), "True", "False", "PoolPaused"),
        (ServingState(synced=True, pool_paused=True, suspended=True), "True", "False", "Suspended"),
        (
            ServingState(synced=True, suspended=True, stopped=True),
            "Unknown",
            "Unknown",
            "OperatorStopped",
        ),
    ],
)
def test_ready_means_would_work_and_claiming_claims_now_for_one_reason(
    situation: ServingState, would_work: str, claims: str, reason: str
) -> None:
    verdicts = all_hold().states()
    summary, now = ready(verdicts, situation), claiming(verdicts, situation)
    assert (summary.status, summary.reason) == (would_work, reason)
    assert (now.status, now.reason) == (claims, reason)


@pytest.mark.parametrize("failed", c.ORDER)
def test_with_a_fault_nothing_is_claimed_for_the_reason_of_the_fault(failed: str) -> None:
    conditions = all_hold()
    conditions.set_false(failed, "Broken", "mend it")
    assert not conditions.allow_claims()
    situation = ServingState(synced=True, suspended=True)
    assert claiming(conditions.states(), situation) == ConditionState("False", "Broken", "mend it")


def test_a_fault_of_a_part_leaves_the_rest_claimed_and_known_but_the_binding_not_ready() -> None:
    conditions = all_hold()
    conditions.set_false(c.WORK_POOL_FOUND, "QueueNotFound", "no queue 'high'", partial=True)
    verdicts = conditions.states()
    assert {v.status for name, v in verdicts.items() if name != c.WORK_POOL_FOUND} == {"True"}
    assert not conditions.all_true()
    assert conditions.allow_claims()
    assert ready(verdicts, SERVING).status == "False"
    now = claiming(verdicts, SERVING)
    assert (now.status, now.reason) == ("True", "QueueNotFound")
    assert "other queues are claimed" in now.message
    assert "no queue 'high'" in now.message
    assert claiming(verdicts, ServingState(synced=True, suspended=True)).reason == "Suspended"


def test_a_fault_beside_that_of_a_part_claims_nothing() -> None:
    conditions = all_hold()
    conditions.set_false(c.WORK_POOL_FOUND, "QueueNotFound", "no queue 'high'", partial=True)
    conditions.set_false(c.TEMPLATE_VALID, "InvalidTemplate", "correct it")
    assert not conditions.allow_claims()
    verdicts = conditions.states()
    assert ready(verdicts, SERVING).reason == "QueueNotFound"
    assert claiming(verdicts, SERVING).reason == "InvalidTemplate"


def test_a_defect_of_the_operator_is_told_by_its_kind_and_never_in_its_words() -> None:
    error = ExceptionGroup("tasks", [ExceptionGroup("more", [ValueError("pnu_SECRET")])])
    reason, text = defect(error, doing="while it served the binding")
    assert reason == "InternalError"
    assert "(ValueError)" in text
    assert "SECRET" not in text
    verdict = ConditionState("False", reason, text)
    situation = ServingState(synced=True, unserved=verdict)
    assert ready(all_hold().states(), situation) == verdict
    assert claiming(all_hold().states(), situation) == verdict


@pytest.mark.parametrize(
    ("lost", "status", "reason"),
    [
        ("", "Unknown", "Connecting"),
        (None, "True", "Listening"),
        ("HTTP 403", "False", "PollingOnly"),
    ],
)
def test_that_polling_is_all_there_is_is_a_condition(
    lost: str | None, status: str, reason: str
) -> None:
    verdict = events_connected(lost, interval=10)
    assert (verdict.status, verdict.reason) == (status, reason)
    if lost:
        assert "HTTP 403" in verdict.message
        assert "every 10 s" in verdict.message


def test_a_full_binding_names_its_limit() -> None:
    assert "allows: 3." in ready(all_hold().states(), ServingState(synced=True, full_at=3)).message


def test_the_transition_time_moves_with_the_status_alone() -> None:
    def written(verdict: ConditionState, *, before: list[dict[str, object]], now: datetime) -> str:
        [condition] = as_status({"Ready": verdict}, before=before, generation=2, now=now)
        assert condition["observedGeneration"] == 2
        return str(condition["lastTransitionTime"])

    before = as_status(
        {"Ready": ConditionState("True", "Polling")}, before=[], generation=1, now=NOON
    )
    other_reason = written(ConditionState("True", "Suspended", "now"), before=before, now=LATER)
    other_status = written(ConditionState("False", "Suspended"), before=before, now=LATER)
    assert other_reason == "2026-01-01T12:00:00Z"
    assert other_status == "2026-01-01T13:00:00Z"
