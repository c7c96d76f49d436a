"""Without a run, explain chooses the one of a binding that a person would ask about."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.support.explained import binding, claimed, conditions, scheduled, snapshot
from tests.support.snapshots import WALL, run, state
from workpool_operator.cli.explain import report
from workpool_operator.cli.explain.choice import waiting_longest_first
from workpool_operator.cli.explain.reasons import explain
from workpool_operator.cli.explain.report import Report
from workpool_operator.cli.explain.snapshot import Choice, Snapshot
from workpool_operator.prefect_api.models import Run, State

MINUTE = timedelta(minutes=1)
ASKED = Choice(binding="data/etl", pool="pool")


def waiting(name: str, current: State, *, expected: timedelta, **fields: Any) -> Run:
    """A run that was to start so long ago; for the server it is due since then."""
    time = (WALL - expected).isoformat()
    given = {"expected_start_time": time, "next_scheduled_start_time": time, **fields}
    made = run(current, name=name, **given)
    return replace(made, document=given)


def names(*runs: Run) -> list[str]:
    return [each.name for each in waiting_longest_first(runs, WALL)]


def test_due_and_claimed_runs_wait_since_they_were_to_start():
    late = waiting("late", scheduled(name="Late"), expected=3 * MINUTE)
    unschedulable = state("PENDING", "Unschedulable")
    stuck = waiting("stuck", unschedulable, expected=9 * MINUTE, next_scheduled_start_time=None)
    assert names(late, stuck) == ["stuck", "late"]


def test_a_run_that_prefect_put_off_for_a_slot_waits_and_one_that_retries_later_does_not():
    later = {"next_scheduled_start_time": WALL + MINUTE}
    slot = scheduled(name="AwaitingConcurrencySlot")
    put_off = waiting("put-off", slot, expected=5 * MINUTE, **later)
    retry = waiting("retry", scheduled(name="AwaitingRetry"), expected=9 * MINUTE, **later)
    own = {"empirical_policy": {"retry_type": "in_process"}}
    in_process = waiting("own", scheduled(name="AwaitingRetry"), expected=9 * MINUTE, **own)
    assert names(retry, put_off, in_process) == ["put-off"]


def test_a_run_that_has_run_before_waits_since_it_became_due_again():
    started = {"start_time": WALL - 60 * MINUTE}
    again = {"next_scheduled_start_time": WALL - MINUTE}
    restarted = waiting("again", scheduled(), expected=61 * MINUTE, **started, **again)
    late = waiting("late", scheduled(), expected=3 * MINUTE)
    claimed_again = waiting(
        "claimed",
        state("PENDING", at=WALL - 2 * MINUTE),
        expected=61 * MINUTE,
        **{**started, "next_scheduled_start_time": None},
    )
    assert names(restarted, late, claimed_again) == ["late", "claimed", "again"]


def asked(given: Snapshot, *, why: str = "") -> Report:
    """The report on the binding's run; without `why`, none waits."""
    chosen = replace(given, choice=replace(ASKED, why=why))
    if not why and chosen.prefect:
        chosen = replace(chosen, run_id="", prefect=replace(chosen.prefect, run=None))
    return Report(chosen, explain(chosen), ())


def test_the_heading_says_why_this_run_was_chosen():
    given = asked(snapshot(**claimed()), why="it has waited longest of 2 that wait")
    assert "chosen for binding data/etl: it has waited longest of 2 that wait" in (
        report.heading(given)
    )
    document: Any = report.as_document(given)
    assert document["chosen"]["binding"] == "data/etl"
    assert document["chosen"]["why"].startswith("it has waited longest")


def test_if_nothing_waits_the_answer_says_so_or_what_would_keep_the_next_run():
    given = asked(snapshot(scheduled()))
    assert [each.reason for each in given.reasons] == ["NothingWaits"]
    assert list(report.as_lines(given))[:2] == [
        "binding data/etl",
        "answer: NothingWaits: No run of work pool 'pool' waits for binding data/etl. None has "
        "crashed within a day.",
    ]
    fault = conditions(Ready=("False", "SecretNotFound"), Claiming=("False", "SecretNotFound"))
    held = asked(snapshot(scheduled(), cluster={"bindings": (binding(conditions=fault),)}))
    assert [each.reason for each in held.reasons] == ["BindingNotReady", "NothingWaits"]


def test_without_prefect_the_binding_itself_is_explained():
    fault = conditions(Ready=("False", "ConnectionFailed"), Claiming=("False", "ConnectionFailed"))
    given = snapshot(scheduled(), cluster={"bindings": (binding(conditions=fault),)})
    alone = asked(replace(given, run_id="", prefect=None))
    assert [each.reason for each in alone.reasons] == ["BindingNotReady"]
    assert asked(replace(snapshot(scheduled()), run_id="", prefect=None)).reasons == ()
