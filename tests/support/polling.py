"""Waiting, in tests, for what a real server will say sooner or later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
# A read of a run costs a Prefect server 12 ms of CPU time, so who has waited long asks less often.
SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 0.4
SHARE = 0.1  # of the time that was waited


class NotYet(AssertionError):
    """The time is over; `last` is what was read last."""

    def __init__(self, last: object, seconds: float) -> None:
        super().__init__(f"after {seconds:g} s still: {last!r}")
        self.last = last


async def poll(
    read: Callable[[], Awaitable[T]], *, until: Callable[[T], bool], seconds: float = 30
) -> T:
    """What `read` returns, as soon as it is as wanted."""
    time = asyncio.get_running_loop().time
    began = time()
    while not until(seen := await read()):
        waited = time() - began
        if waited > seconds:
            raise NotYet(seen, seconds)
        await asyncio.sleep(min(max(SHORTEST_SECONDS, SHARE * waited), LONGEST_SECONDS))
    return seen
