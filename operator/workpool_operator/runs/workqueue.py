"""A queue of keys that somebody has to look at.

Guarantees:
- a key that is added several times before it is taken is taken once;
- a key is in one pair of hands at most: added while it is held, it comes again after `done`;
- `add_after` keeps the earliest time that was asked for; `add` overrides any;
- `add_rate_limited` delays a key 1, 2, 4 ... 300 s with jitter until `forget` starts it afresh, and
nothing
  brings the key back before `at_least`, which a server asked for.

Times are the event loop's, whose timers it sets.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0


class WorkQueue(Generic[K]):
    """Keys in order of arrival; see the module for what it guarantees."""

    def __init__(self, *, jitter: Callable[[float, float], float] = random.uniform) -> None:
        self._jitter = jitter
        self._ready: dict[K, None] = {}
        self._held: dict[K, float] = {}
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._not_before: dict[K, float] = {}
        self._arrived = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready) + len(self._held)

    def add(self, key: K) -> None:
        """Have the key looked at as soon as possible."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if self._is_early(key):
            self._set_timer(key, self._not_before[key])
        elif key in self._held:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._arrived.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Have it looked at in `seconds`, or earlier if something else asks for it."""
        when = asyncio.get_running_loop().time() + seconds
        if timer := self._timers.get(key):
            if timer.when() <= when:
                return
            timer.cancel()
        self._set_timer(key, when)

    def add_rate_limited(self, key: K, *, at_least: float = 0.0) -> float:
        """Have it looked at after its next delay, which is returned in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        longest: float = min(FIRST_DELAY_SECONDS * 2**failures, LONGEST_DELAY_SECONDS)
        delay = max(at_least, longest * self._jitter(0.8, 1.2))
        if at_least > 0:
            self._not_before[key] = asyncio.get_running_loop().time() + at_least
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key's next failure is its first."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    async def get(self) -> K:
        """The next key, held until `done`."""
        while self._closed or not self._ready:
            self._arrived.clear()
            await self._arrived.wait()
        key = next(iter(self._ready))
        del self._ready[key]
        self._held[key] = asyncio.get_running_loop().time()
        return key

    def done(self, key: K) -> None:
        """Let go of the key; if it was added meanwhile, it is ready again."""
        self._held.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def longest_held_seconds(self) -> float:
        """Seconds since the key was taken that has been held longest; 0 if none is."""
        since = min(self._held.values(), default=None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def wait_idle(self) -> None:
        """Returns once nothing is held: what is ready stays ready."""
        while self._held:  # noqa: ASYNC110 - only at the end, and only for a moment
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Give out no more keys."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _is_early(self, key: K) -> bool:
        not_before = self._not_before.get(key)
        return not_before is not None and asyncio.get_running_loop().time() < not_before

    def _set_timer(self, key: K, when: float) -> None:
        self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key)
