"""A server's timestamps are read by its own clock, which its answers show."""

from __future__ import annotations

import logging
from datetime import timedelta
from email.utils import format_datetime

import pytest

from tests.support.clock import NOON, FakeClock
from workpool_operator.clock import OBSERVE_SECONDS, ServerClock


def date(ahead: float, passed: float = 0) -> str:
    """Return the Date header of a server whose clock is so many seconds ahead."""
    return format_datetime(NOON + timedelta(seconds=ahead + passed), usegmt=True)


@pytest.mark.parametrize("ahead", [30, -30, 3600])
def test_the_time_of_a_server_is_the_one_of_its_answers_to_a_second(ahead: int) -> None:
    own = FakeClock()
    server = ServerClock("the server", clock=own)
    assert server.now() == NOON
    server.observe(date(ahead))
    own.advance(7)
    expected = NOON + timedelta(seconds=ahead + 7)
    assert abs(server.now() - expected) < timedelta(seconds=1)
    assert server.monotonic() == own.monotonic()


@pytest.mark.parametrize("ahead", [0, 1, -2])
def test_a_difference_that_the_header_cannot_show_is_none(ahead: int) -> None:
    server = ServerClock("the server", clock=FakeClock())
    server.observe(date(ahead))
    assert server.now() == NOON


@pytest.mark.parametrize("header", [None, "", "yesterday", "Thu, 99 Nov 2026 21:00:00 GMT"])
def test_an_answer_without_a_usable_date_changes_nothing(header: str | None) -> None:
    server = ServerClock("the server", clock=FakeClock())
    server.observe(header)
    assert server.now() == NOON


def test_a_difference_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    own = FakeClock()
    server = ServerClock("the Prefect server", clock=own)
    for ahead in (-30, -30, -31, 0, 0):
        server.observe(date(ahead, own.monotonic() - 1000))
        own.advance(OBSERVE_SECONDS)
    first, second = (record.getMessage() for record in caplog.records)
    assert "The clock of the Prefect server is 30 s behind this machine's" in first
    assert "agrees with this machine's again" in second
