"""An answer that a hundred bindings need at once is fetched once."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clock import FakeClock
from workpool_operator.ttl_cache import TTLCache


class Counter:
    """Answers with the number of calls so far; the first call fails if `error` is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self._error = error

    async def __call__(self) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        if self._error and self.calls == 1:
            raise self._error
        return self.calls


async def test_concurrent_and_later_callers_share_one_answer() -> None:
    cache, fetch = TTLCache[int](seconds=60), Counter()
    assert await asyncio.gather(*(cache.get("key", fetch) for _ in range(100))) == [1] * 100
    assert await cache.get("key", fetch) == 1


async def test_an_expired_answer_is_fetched_again() -> None:
    clock, fetch = FakeClock(), Counter()
    cache = TTLCache[int](seconds=10, clock=clock)
    assert await cache.get("key", fetch) == 1
    clock.advance(9.9)
    assert await cache.get("key", fetch) == 1
    clock.advance(0.1)
    assert await cache.get("key", fetch) == 2


async def test_each_key_has_its_own_answer() -> None:
    cache, fetch = TTLCache[int](seconds=60), Counter()
    assert [await cache.get("one", fetch), await cache.get("other", fetch)] == [1, 2]
    assert await cache.get("one", fetch) == 1


async def test_a_failure_is_not_cached() -> None:
    cache, fetch = TTLCache[int](seconds=60), Counter(OSError())
    one, other = await asyncio.gather(
        cache.get("key", fetch), cache.get("key", fetch), return_exceptions=True
    )
    assert isinstance(one, OSError)
    assert other == 2


async def test_after_a_cancelled_fetch_the_next_caller_fetches() -> None:
    cache, fetch = TTLCache[int](seconds=60), Counter()
    first = asyncio.create_task(cache.get("key", fetch))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await cache.get("key", fetch) == 2
