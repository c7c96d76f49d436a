"""A queue of keys to reconcile, with the names and guarantees of client-go's workqueue.

- A key that is added several times before `get` returns it is returned once, and wakes one caller.
- Only one caller holds a key: if it is added meanwhile, `get` returns it again after `done`.
- `add_after` keeps the earliest time; `add` overrides it.
- `add_rate_limited` delays a key by 1, 2, 4 ... 300 s with jitter until `forget`, and never returns
  it before `at_least` (a server's Retry-After).

Times are those of the event loop, whose timers it uses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from workpool_operator.backoff import exponential_delay

K = TypeVar("K", bound=Hashable)

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0


class WorkQueue(Generic[K]):
    """Keys in order of arrival; the module lists its guarantees."""

    def __init__(self, *, jitter: Callable[[float, float], float] = random.uniform) -> None:
        self._jitter = jitter
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._queued: set[K] = set()
        self._held: dict[K, float] = {}
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._not_before: dict[K, float] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._queued) + len(self._held)

    def add(self, key: K) -> None:
        """Queue the key."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if self._is_early(key):
            self._set_timer(key, self._not_before[key])
        elif key in self._held:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Queue the key in `seconds`, or earlier if another call does."""
        when = asyncio.get_running_loop().time() + seconds
        if timer := self._timers.get(key):
            if timer.when() <= when:
                return
            timer.cancel()
        self._set_timer(key, when)

    def add_rate_limited(self, key: K, *, at_least: float = 0.0) -> float:
        """Queue the key after its next delay; return the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = exponential_delay(
            failures, first=FIRST_DELAY_SECONDS, longest=LONGEST_DELAY_SECONDS
        )
        delay = max(at_least, delay * self._jitter(0.8, 1.2))
        if at_least > 0:
            self._not_before[key] = asyncio.get_running_loop().time() + at_least
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """Reset the key's delay."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    async def get(self) -> K:
        """Return the next key, held until `done`."""
        key = await self._ready.get()
        if self._closed:
            await asyncio.Event().wait()
        self._queued.remove(key)
        self._held[key] = asyncio.get_running_loop().time()
        return key

    def done(self, key: K) -> None:
        """Release the key; if it was added meanwhile, it is queued again."""
        self._held.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def longest_held_seconds(self) -> float:
        """Return for how many seconds the key has been held that is held longest; 0 without one."""
        since = min(self._held.values(), default=None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def wait_idle(self) -> None:
        """Wait until no key is held; queued keys stay queued."""
        while self._held:  # noqa: ASYNC110 - only at the end, and only for a moment
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Stop: `get` returns no more keys."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _is_early(self, key: K) -> bool:
        not_before = self._not_before.get(key)
        return not_before is not None and asyncio.get_running_loop().time() < not_before

    def _set_timer(self, key: K, when: float) -> None:
        self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key)
