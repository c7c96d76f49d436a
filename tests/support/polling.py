"""Waits until a real server returns what a test expects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
# A read of a run takes 12 ms of CPU time in a Prefect server: the longer the wait, the fewer reads.
SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 0.4
SHARE = 0.1  # of the time that was waited


class NotYet(AssertionError):
    """The condition did not hold in time; `last` is what was read last."""

    def __init__(self, last: object, seconds: float) -> None:
        super().__init__(f"after {seconds:g} s still: {last!r}")
        self.last = last


async def poll(
    read: Callable[[], Awaitable[T]], *, until: Callable[[T], bool], seconds: float = 30
) -> T:
    """Call `read` until `until(result)` is true, and return the result.

    Raises:
        NotYet: it is not true after `seconds`.
    """
    time = asyncio.get_running_loop().time
    began = time()
    while not until(seen := await read()):
        waited = time() - began
        if waited > seconds:
            raise NotYet(seen, seconds)
        await asyncio.sleep(min(max(SHORTEST_SECONDS, SHARE * waited), LONGEST_SECONDS))
    return seen
