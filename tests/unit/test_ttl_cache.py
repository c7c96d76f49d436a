"""What a hundred bindings ask at once is asked once."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clock import FakeClock
from workpool_operator.ttl_cache import TTLCache


class Asked:
    """Answers with how often it was asked; the first time it may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.times = 0
        self._error = error

    async def __call__(self) -> int:
        self.times += 1
        await asyncio.sleep(0)
        if self._error and self.times == 1:
            raise self._error
        return self.times


async def test_those_who_ask_at_once_and_soon_after_share_one_answer() -> None:
    recent, ask = TTLCache[int](seconds=60), Asked()
    assert await asyncio.gather(*(recent.get("key", ask) for _ in range(100))) == [1] * 100
    assert await recent.get("key", ask) == 1


async def test_an_old_answer_is_asked_for_again() -> None:
    clock, ask = FakeClock(), Asked()
    recent = TTLCache[int](seconds=10, clock=clock)
    assert await recent.get("key", ask) == 1
    clock.advance(9.9)
    assert await recent.get("key", ask) == 1
    clock.advance(0.1)
    assert await recent.get("key", ask) == 2


async def test_each_key_has_its_own_answer() -> None:
    recent, ask = TTLCache[int](seconds=60), Asked()
    assert [await recent.get("one", ask), await recent.get("other", ask)] == [1, 2]
    assert await recent.get("one", ask) == 1


async def test_a_failure_is_nobody_elses_answer() -> None:
    recent, ask = TTLCache[int](seconds=60), Asked(OSError())
    one, other = await asyncio.gather(
        recent.get("key", ask), recent.get("key", ask), return_exceptions=True
    )
    assert isinstance(one, OSError)
    assert other == 2


async def test_who_gives_up_leaves_the_question_to_the_next() -> None:
    recent, ask = TTLCache[int](seconds=60), Asked()
    first = asyncio.create_task(recent.get("key", ask))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await recent.get("key", ask) == 2
