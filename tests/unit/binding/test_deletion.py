"""How long the deletion of a binding waits for its runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clock import FakeClock
from workpool_operator.binding.deletion import (
    REPORT_SECONDS,
    STUCK_SECONDS,
    Deletion,
    Remaining,
)

SERVER = "http://prefect/api does not answer."


class Waiting:
    """A deletion that is observed every second."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.deletion = Deletion("data/etl", self.clock)

    def observe(self, policy: str = "Drain", *, seconds: float = 2, **left: Any) -> bool:
        """Return whether it is over, once this was left for so many seconds."""
        self.deletion.observe(Remaining(policy, **left))
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.deletion.observe(Remaining(policy, **left))
        return self.deletion.is_over


@pytest.mark.parametrize("policy", ["Drain", "Cancel"])
def test_it_waits_for_runs_in_flight_however_long_they_take(policy: str) -> None:
    waiting = Waiting()
    assert not waiting.observe(policy, running=1, executing=1, seconds=10_000)
    assert not waiting.observe(policy, pending=1, seconds=10_000)
    assert not waiting.observe(policy, seconds=1), "a claim may show a moment later"
    assert waiting.observe(policy)


def test_it_waits_for_the_reports_of_the_last_ends_for_a_minute() -> None:
    waiting = Waiting()
    assert not waiting.observe(unreported=1)
    assert "reports about 1 ended Jobs" in waiting.deletion.state().message
    assert waiting.observe(unreported=1, seconds=REPORT_SECONDS)
    assert not waiting.deletion.is_abandoned


def test_jobs_that_run_end_without_a_server_and_are_not_cancelled_without_it() -> None:
    waiting = Waiting()
    running: dict[str, Any] = {"running": 1, "executing": 1, "unusable": SERVER}
    assert not waiting.observe("Drain", **running, seconds=10_000)
    assert "does not answer" not in waiting.deletion.state().message
    assert not waiting.observe("Cancel", **running)
    assert "prefect/api does not answer; after 300 s" in waiting.deletion.state().message
    assert waiting.observe("Cancel", **running, seconds=STUCK_SECONDS)
    state = waiting.deletion.state()
    assert state.reason == "DeletionTimedOut"
    assert "http://prefect/api does not answer." in state.message


def test_a_claimed_run_without_a_job_waits_for_the_server_for_five_minutes() -> None:
    waiting = Waiting()
    assert not waiting.observe(pending=1, unusable=SERVER, seconds=STUCK_SECONDS - 10)
    assert waiting.observe(pending=1, unusable=SERVER, seconds=10)


def test_jobs_that_cannot_be_seen_are_waited_for_for_five_minutes() -> None:
    waiting, unseen = Waiting(), "no right to list Jobs"
    assert not waiting.observe(unseen=unseen, seconds=STUCK_SECONDS - 10)
    assert not waiting.observe(running=1, executing=1), "they are seen: the time begins again"
    assert not waiting.observe(unseen=unseen, seconds=STUCK_SECONDS - 10)
    assert waiting.observe(unseen=unseen, seconds=10)


def test_the_message_names_the_numbers_and_the_command_that_ends_the_wait() -> None:
    waiting = Waiting()
    assert not waiting.deletion.has_begun
    waiting.observe(running=2, pending=1)
    assert waiting.deletion.has_begun
    state = waiting.deletion.state()
    assert (state.status, state.reason) == ("False", "Draining")
    assert "2 running and 1 pending runs" in state.message
    assert "kubectl -n data patch wpb etl --type=merge --patch" in state.message
    waiting.observe("Cancel", running=2)
    assert waiting.deletion.state().reason == "Cancelling"
