"""Every backoff holds for any number of failures: an overflow would stop the loop that waits."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tests.support.clock import FakeClock
from workpool_operator.backoff import exponential_delay
from workpool_operator.errors import KubernetesUnavailable
from workpool_operator.runs.back_pressure import BackPressure
from workpool_operator.runs.job_creator import LONGEST_REFUSAL_SECONDS, JobCreator
from workpool_operator.runs.store import (
    FIRST_DEFERRAL_SECONDS,
    LONGEST_DEFERRAL_SECONDS,
    RunRecord,
    RunStore,
)
from workpool_operator.runs.workqueue import LONGEST_DELAY_SECONDS, WorkQueue

WALL = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = st.integers(min_value=0, max_value=10**5)
RUN_ID = UUID(int=1)


@given(COUNTS, st.floats(0.01, 60), st.floats(1, 1e4))
def test_a_delay_is_between_the_first_and_the_longest(
    failures: int, first: float, factor: float
) -> None:
    longest = first * factor
    delay = exponential_delay(failures, first=first, longest=longest)
    assert first <= delay <= longest
    assert exponential_delay(failures + 1, first=first, longest=longest) >= delay


def test_a_delay_doubles_up_to_the_longest() -> None:
    delays = [exponential_delay(failures, first=1, longest=5) for failures in range(5)]
    assert delays == [1, 2, 4, 5, 5]


@given(COUNTS)
def test_a_claim_that_was_refused_any_number_of_times_is_deferred(times: int) -> None:
    deferred = RunRecord(refused_claims=times).defer(None, wall=WALL)
    assert deferred.not_before is not None
    seconds = (deferred.not_before - WALL).total_seconds()
    assert FIRST_DEFERRAL_SECONDS <= seconds <= LONGEST_DEFERRAL_SECONDS
    assert deferred.refused_claims == times + 1


@given(COUNTS)
def test_a_key_that_failed_any_number_of_times_is_queued_again(times: int) -> None:
    async def delay() -> float:
        queue: WorkQueue[str] = WorkQueue(jitter=lambda low, high: high)
        queue._failures["a"] = times
        seconds = queue.add_rate_limited("a")
        queue.close()
        return seconds

    assert asyncio.run(delay()) <= LONGEST_DELAY_SECONDS * 1.2


@given(COUNTS)
def test_a_job_that_was_refused_any_number_of_times_is_tried_again(times: int) -> None:
    absent: Any = None
    store = RunStore(lambda _: frozenset(), clock=FakeClock())
    store.put(RUN_ID, RunRecord(refusals=times))
    creator = JobCreator(
        renderer=absent,
        job_writer=absent,
        store=store,
        job_cache=absent,
        run_log=absent,
        back_pressure=BackPressure(),
        asked_to_wait=lambda _: None,
        forbidden=absent,
        clock=FakeClock(),
    )
    creator._note_wait(RUN_ID, KubernetesUnavailable("no answer"))
    known = store.of(RUN_ID)
    assert known.refusals == times + 1
    assert 0 < known.refused_until - FakeClock().monotonic() <= LONGEST_REFUSAL_SECONDS * 1.2
