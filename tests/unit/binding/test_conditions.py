"""The conditions of a binding, and how Ready and Claiming summarise them."""

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
    events_connected,
    internal_error,
    ready,
)
from workpool_operator.runs.capacity import Shortage

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
SERVING = ServingState(synced=True)
DRAINS = ConditionState("False", "Draining", "It waits for 2 running and 0 pending runs.")
FULL = Shortage("AtCapacity", "All slots are taken.")


def all_true() -> Conditions:
    conditions = Conditions()
    for name in c.ORDER:
        conditions.set_true(name, "Fine", "")
    return conditions


def test_the_conditions_of_a_new_binding_are_unknown() -> None:
    states = Conditions().states()
    assert list(states) == list(c.ORDER)
    assert {state.status for state in states.values()} == {"Unknown"}
    assert ready(states, SERVING).reason == "Starting"


@pytest.mark.parametrize("failed", c.ORDER)
def test_conditions_after_a_fault_are_unknown_and_those_before_it_stay(failed: str) -> None:
    conditions = all_true()
    conditions.set_false(failed, "Broken", "fix it")
    position = c.ORDER.index(failed)
    states = conditions.states()
    statuses = [state.status for state in states.values()]
    unknown = len(c.ORDER) - position - 1
    assert statuses == ["True"] * position + ["False"] + ["Unknown"] * unknown
    for later in c.ORDER[position + 1 :]:
        assert states[later].message == f"Not checked until {failed} is True."
    assert not conditions.all_true()
    assert conditions.has_fault()


def test_ready_has_the_reason_and_the_fix_of_the_fault() -> None:
    conditions = all_true()
    conditions.set_false(c.WORK_POOL_FOUND, "WorkPoolNotFound", "create it")
    summary = ready(
        conditions.states(), ServingState(synced=True, suspended=True, pool_paused=True)
    )
    assert summary == ConditionState("False", "WorkPoolNotFound", "create it")


def test_ready_names_a_fault_although_an_earlier_condition_is_unknown() -> None:
    conditions = Conditions()
    conditions.set_true(c.SERVER_RESOLVED, "Resolved", "")
    conditions.set_false(c.SERVER_REACHABLE, "ConnectionFailed", "start it")
    assert conditions.states()[c.CREDENTIALS_VALID].message == "Not checked yet."
    assert ready(conditions.states(), SERVING).reason == "ConnectionFailed"


@pytest.mark.parametrize(
    ("serving", "is_ready", "is_claiming", "reason"),
    [
        (ServingState(), "Unknown", "Unknown", "Starting"),
        (SERVING, "True", "True", "Polling"),
        (ServingState(synced=True, shortage=FULL), "True", "False", "AtCapacity"),
        (ServingState(synced=True, shortage=FULL, pool_paused=True), "True", "False", "PoolPaused"),
        (ServingState(synced=True, pool_paused=True, suspended=True), "True", "False", "Suspended"),
        (
            ServingState(synced=True, suspended=True, stopped=True),
            "Unknown",
            "Unknown",
            "OperatorStopped",
        ),
        (ServingState(synced=True, suspended=True, deletion=DRAINS), "True", "False", "Draining"),
        (ServingState(unserved=c.NOT_SELECTED), "Unknown", "Unknown", "NotSelected"),
        (
            ServingState(synced=True, suspended=True, overdue_since=NOON),
            "Unknown",
            "Unknown",
            "PollOverdue",
        ),
    ],
)
def test_ready_and_claiming_have_the_same_reason(
    serving: ServingState, is_ready: str, is_claiming: str, reason: str
) -> None:
    states = all_true().states()
    summary, now = ready(states, serving), claiming(states, serving)
    assert (summary.status, summary.reason) == (is_ready, reason)
    assert (now.status, now.reason) == (is_claiming, reason)


@pytest.mark.parametrize("failed", c.ORDER)
def test_claiming_has_the_reason_and_the_fix_of_the_fault(failed: str) -> None:
    conditions = all_true()
    conditions.set_false(failed, "Broken", "fix it")
    assert not conditions.allow_claims()
    serving = ServingState(synced=True, suspended=True)
    assert claiming(conditions.states(), serving) == ConditionState("False", "Broken", "fix it")


def test_a_deletion_that_waits_is_not_a_fault_and_does_not_hide_one() -> None:
    serving = ServingState(synced=True, deletion=DRAINS)
    assert "condition Claiming says" in ready(all_true().states(), serving).message
    conditions = all_true()
    conditions.set_false(c.SERVER_REACHABLE, "ConnectionFailed", "start it")
    assert ready(conditions.states(), serving).reason == "ConnectionFailed"
    assert claiming(conditions.states(), serving) == DRAINS


def test_a_partial_fault_makes_the_binding_not_ready_and_still_allows_claims() -> None:
    conditions = all_true()
    conditions.set_false(c.WORK_POOL_FOUND, "QueueNotFound", "no queue 'high'", partial=True)
    states = conditions.states()
    assert {v.status for name, v in states.items() if name != c.WORK_POOL_FOUND} == {"True"}
    assert not conditions.all_true()
    assert conditions.allow_claims()
    assert ready(states, SERVING).status == "False"
    now = claiming(states, SERVING)
    assert (now.status, now.reason) == ("True", "QueueNotFound")
    assert "other queues are claimed" in now.message
    assert "no queue 'high'" in now.message
    assert claiming(states, ServingState(synced=True, suspended=True)).reason == "Suspended"


def test_claiming_says_how_many_due_runs_wait_for_which_limit_of_prefect() -> None:
    serving = ServingState(synced=True, behind_pool_limit=3, behind_deployment_limit=1)
    states = all_true().states()
    now = claiming(states, serving)
    assert (now.status, now.reason) == ("True", "Polling")
    assert (
        "Of those that wait, 3 for that of the work pool or of a work queue and 1 for that of "
        "their deployment. `workpool-operator explain RUN` names"
    ) in now.message
    assert ready(states, serving).message == "Due runs are claimed."


def test_a_full_fault_besides_a_partial_one_stops_claims() -> None:
    conditions = all_true()
    conditions.set_false(c.WORK_POOL_FOUND, "QueueNotFound", "no queue 'high'", partial=True)
    conditions.set_false(c.TEMPLATE_VALID, "InvalidTemplate", "correct it")
    assert not conditions.allow_claims()
    states = conditions.states()
    assert ready(states, SERVING).reason == "QueueNotFound"
    assert claiming(states, SERVING).reason == "InvalidTemplate"


def test_a_bug_in_the_operator_is_reported_by_its_type_and_never_by_its_text() -> None:
    error = ExceptionGroup("tasks", [ExceptionGroup("more", [ValueError("pnu_SECRET")])])
    reason, text = internal_error(error, task="serve the binding")
    assert reason == "InternalError"
    assert "(ValueError)" in text
    assert "SECRET" not in text
    state = ConditionState("False", reason, text)
    serving = ServingState(synced=True, unserved=state)
    assert ready(all_true().states(), serving) == state
    assert claiming(all_true().states(), serving) == state


@pytest.mark.parametrize(
    ("lost", "status", "reason"),
    [
        ("", "Unknown", "Connecting"),
        (None, "True", "Listening"),
        ("HTTP 403", "False", "PollingOnly"),
    ],
)
def test_a_lost_event_stream_is_a_condition(lost: str | None, status: str, reason: str) -> None:
    state = events_connected(lost, interval=10)
    assert (state.status, state.reason) == (status, reason)
    if lost:
        assert "HTTP 403" in state.message
        assert "every 10 s" in state.message


def test_a_binding_at_capacity_says_which_limit_is_reached() -> None:
    state = ready(all_true().states(), ServingState(synced=True, shortage=FULL))
    assert state.message == FULL.message


def test_the_transition_time_changes_only_with_the_status() -> None:
    def written(state: ConditionState, *, before: list[dict[str, object]], now: datetime) -> str:
        [condition] = as_status({"Ready": state}, before=before, generation=2, now=now)
        assert condition["observedGeneration"] == 2
        return str(condition["lastTransitionTime"])

    before = as_status(
        {"Ready": ConditionState("True", "Polling")}, before=[], generation=1, now=NOON
    )
    other_reason = written(ConditionState("True", "Suspended", "now"), before=before, now=LATER)
    other_status = written(ConditionState("False", "Suspended"), before=before, now=LATER)
    assert other_reason == "2026-01-01T12:00:00Z"
    assert other_status == "2026-01-01T13:00:00Z"


@pytest.mark.parametrize(
    ("url", "verify", "state"),
    [
        ("", True, ("Unknown", "NotChecked")),
        ("http://prefect/api", False, ("False", "NoTLS")),
        ("https://prefect/api", True, ("False", "Verified")),
        ("https://prefect/api", False, ("True", "InsecureSkipVerify")),
    ],
)
def test_a_server_that_is_not_verified_is_a_warning(url, verify, state):
    found = c.verification_skipped(url, verify=verify)
    assert (found.status, found.reason) == state
