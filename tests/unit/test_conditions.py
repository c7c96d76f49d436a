"""Conditions: what holds, what fails, what nobody knows, and Ready as their summary."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from workpool_operator.binding import conditions as c
from workpool_operator.binding.conditions import Conditions, Situation, Verdict, as_status, ready

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
SERVING = Situation(synced=True)


def all_hold() -> Conditions:
    conditions = Conditions()
    for name in c.ORDER:
        conditions.holds(name, "Fine", "")
    return conditions


def test_a_new_binding_knows_nothing_and_is_not_ready() -> None:
    verdicts = Conditions().verdicts()
    assert list(verdicts) == list(c.ORDER)
    assert {verdict.status for verdict in verdicts.values()} == {"Unknown"}
    assert ready(verdicts, SERVING).reason == "Starting"


@pytest.mark.parametrize("failed", c.ORDER)
def test_what_comes_after_a_fault_is_unknown_and_what_came_before_stays(failed: str) -> None:
    conditions = all_hold()
    conditions.fails(failed, "Broken", "mend it")
    position = c.ORDER.index(failed)
    verdicts = conditions.verdicts()
    statuses = [verdict.status for verdict in verdicts.values()]
    unknown = len(c.ORDER) - position - 1
    assert statuses == ["True"] * position + ["False"] + ["Unknown"] * unknown
    for later in c.ORDER[position + 1 :]:
        assert verdicts[later].message == f"Known once {failed} is True."
    assert not conditions.all_hold()
    assert conditions.fault()


def test_ready_is_false_for_the_reason_and_with_the_fix_of_the_fault() -> None:
    conditions = all_hold()
    conditions.fails(c.WORK_POOL_FOUND, "WorkPoolNotFound", "create it")
    summary = ready(conditions.verdicts(), Situation(synced=True, suspended=True, pool_paused=True))
    assert summary == Verdict("False", "WorkPoolNotFound", "create it")


def test_a_fault_is_named_although_something_before_it_is_unknown() -> None:
    conditions = Conditions()
    conditions.holds(c.SERVER_RESOLVED, "Resolved", "")
    conditions.fails(c.SERVER_REACHABLE, "ConnectionFailed", "start it")
    assert conditions.verdicts()[c.CREDENTIALS_VALID].message == "Not known yet."
    assert ready(conditions.verdicts(), SERVING).reason == "ConnectionFailed"


@pytest.mark.parametrize(
    ("situation", "status", "reason"),
    [
        (Situation(), "Unknown", "Starting"),
        (SERVING, "True", "Polling"),
        (Situation(synced=True, full_at=3), "True", "AtCapacity"),
        (Situation(synced=True, full_at=3, pool_paused=True), "True", "PoolPaused"),
        (Situation(synced=True, pool_paused=True, suspended=True), "True", "Suspended"),
        (Situation(synced=True, suspended=True, stopped=True), "Unknown", "OperatorStopped"),
    ],
)
def test_what_is_no_fault_is_still_told(situation: Situation, status: str, reason: str) -> None:
    summary = ready(all_hold().verdicts(), situation)
    assert (summary.status, summary.reason) == (status, reason)


def test_a_full_binding_names_its_limit() -> None:
    assert "allows: 3." in ready(all_hold().verdicts(), Situation(synced=True, full_at=3)).message


def test_the_transition_time_moves_with_the_status_alone() -> None:
    def written(verdict: Verdict, *, before: list[dict[str, object]], now: datetime) -> str:
        [condition] = as_status({"Ready": verdict}, before=before, generation=2, now=now)
        assert condition["observedGeneration"] == 2
        return str(condition["lastTransitionTime"])

    before = as_status({"Ready": Verdict("True", "Polling")}, before=[], generation=1, now=NOON)
    other_reason = written(Verdict("True", "Suspended", "now"), before=before, now=LATER)
    other_status = written(Verdict("False", "Suspended"), before=before, now=LATER)
    assert other_reason == "2026-01-01T12:00:00Z"
    assert other_status == "2026-01-01T13:00:00Z"
