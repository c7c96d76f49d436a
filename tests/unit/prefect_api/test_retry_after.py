"""No request is sent before the time that the server named for its kind."""

from __future__ import annotations

import pytest

from tests.support.clock import FakeClock
from workpool_operator.errors import PrefectThrottled, PrefectUnavailable
from workpool_operator.prefect_api.retry_after import RetryAfter

THROTTLED = PrefectThrottled("HTTP 429", retry_after=5.0)


def test_a_request_of_the_same_kind_is_not_sent_before_the_time_that_the_server_named() -> None:
    clock = FakeClock()
    limits = RetryAfter(clock=clock)
    limits.check("/flow_runs/filter")
    limits.note("/flow_runs/filter", THROTTLED)
    clock.advance(2)
    with pytest.raises(PrefectThrottled, match="the server asked to wait 3 s") as refused:
        limits.check("/flow_runs/1/set_state")
    assert refused.value.retry_after == 3.0
    limits.check("/logs/")
    clock.advance(3)
    limits.check("/flow_runs/1/set_state")


def test_an_answer_that_names_no_time_keeps_no_request_back() -> None:
    limits = RetryAfter(clock=FakeClock())
    limits.note("/logs/", PrefectUnavailable("HTTP 503"))
    limits.check("/logs/")
