"""Answers that all bindings of a process ask for: asked once, and good for some seconds."""

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
    good_until: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_needed(self, now: float) -> bool:
        return self.lock.locked() or now < self.good_until


class TTLCache(Generic[T]):
    """The answers of the last `seconds`, by what was asked."""

    def __init__(self, *, seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._seconds = seconds
        self._clock = clock
        self._answers: dict[Hashable, _Entry[T]] = {}

    async def get(self, key: Hashable, fetch: Callable[[], Awaitable[T]]) -> T:
        """The answer about `key`, by `fetch` where none is recent; while one asks, the others wait.

        Raises whatever `fetch` raises: then the next one asks again.
        """
        answer = self._entry(key)
        async with answer.lock:
            if answer.good_until <= self._clock.monotonic():
                answer.value = await fetch()
                answer.good_until = self._clock.monotonic() + self._seconds
            return answer.value  # type: ignore[return-value]

    def _entry(self, key: Hashable) -> _Entry[T]:
        if key not in self._answers:  # keys come and go: credentials are part of some
            now = self._clock.monotonic()
            self._answers = {k: known for k, known in self._answers.items() if known.is_needed(now)}
        return self._answers.setdefault(key, _Entry())
