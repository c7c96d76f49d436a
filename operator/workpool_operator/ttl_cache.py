"""Caches answers that all bindings of a process need, for some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from workpool_operator.clock import SYSTEM_CLOCK, Clock

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T | None = None
    expires_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_needed(self, now: float) -> bool:
        return self.lock.locked() or now < self.expires_at


class TTLCache(Generic[T]):
    """Keeps each answer for `seconds`, by key."""

    def __init__(self, *, seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: dict[Hashable, _Entry[T]] = {}

    async def get(self, key: Hashable, fetch: Callable[[], Awaitable[T]]) -> T:
        """Return the answer for `key`, from `fetch` if none is cached. Concurrent callers share it.

        Raises what `fetch` raises; the next caller then fetches again.
        """
        entry = self._entry(key)
        async with entry.lock:
            if entry.expires_at <= self._clock.monotonic():
                entry.value = await fetch()
                entry.expires_at = self._clock.monotonic() + self._seconds
            return entry.value  # type: ignore[return-value]

    def _entry(self, key: Hashable) -> _Entry[T]:
        if key not in self._entries:  # drops old keys: credentials are part of some, and change
            now = self._clock.monotonic()
            self._entries = {k: entry for k, entry in self._entries.items() if entry.is_needed(now)}
        return self._entries.setdefault(key, _Entry())
