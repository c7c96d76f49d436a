"""Waiting, in tests, for what a real server will say sooner or later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
EVERY_SECONDS = 0.1


class NotYet(AssertionError):
    """The time is over; `last` is what was read last."""

    def __init__(self, last: object, seconds: float) -> None:
        super().__init__(f"after {seconds:g} s still: {last!r}")
        self.last = last


async def poll(
    read: Callable[[], Awaitable[T]], *, until: Callable[[T], bool], seconds: float = 30
) -> T:
    """What `read` returns, as soon as it is as wanted."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not until(seen := await read()):
        if asyncio.get_running_loop().time() > deadline:
            raise NotYet(seen, seconds)
        await asyncio.sleep(EVERY_SECONDS)
    return seen
