"""The table in the docstring of `decide` lists the rules in the order of their evaluation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from workpool_operator.runs import decide
from workpool_operator.runs.rules import final, pending, running, scheduled

# Rules that ask a list of their own.
LISTS: dict[Callable[..., Any], Iterable[Callable[..., Any]]] = {
    pending.claimed: pending.CLAIMED,
    pending.without_job: pending.WITHOUT_JOB,
    pending.with_job: pending.WITH_JOB,
    running.job_runs: running.WITH_JOB,
}
STATES = {
    "SCHEDULED": scheduled.SCHEDULED,
    "PENDING": pending.PENDING,
    "RUNNING": running.RUNNING,
    "PAUSED": running.PAUSED[: -len(running.RUNNING)],
    "CANCELLING": running.CANCELLING,
    "final": final.FINAL,
}
TOPICS = ("cancelled", "ended", "suspended")


def rules_of(rules: Iterable[Callable[..., Any]]) -> list[str]:
    """Return the names of the rules; those of a topic are prefixed with its module."""
    names: list[str] = []
    for rule in rules:
        module = rule.__module__.rpartition(".")[2]
        name = f"{module}.{rule.__name__}" if module in TOPICS else rule.__name__
        names += rules_of(LISTS[rule]) if rule in LISTS else [name]
    return names


def documented() -> dict[str, list[str]]:
    """Return the rules by state, as the docstring lists them."""
    states: dict[str, list[str]] = {}
    table = (decide.__doc__ or "").partition("The rules of each state")[2]
    for state, rule in re.findall(r"^    (.{12})([a-z_.]+)  +\S", table, re.MULTILINE):
        if state.strip() and not state.startswith(" "):
            states[state.strip()] = []
        list(states.values())[-1].append(rule)
    return states


def test_the_table_lists_every_rule_of_each_state_in_order() -> None:
    assert documented() == {state: rules_of(rules) for state, rules in STATES.items()}


def test_a_paused_run_that_needs_its_pod_is_treated_as_a_running_one() -> None:
    assert running.PAUSED[-len(running.RUNNING) :] == running.RUNNING
    assert set(decide.RULES) == set(STATES) - {"final"}
