"""An event loop whose time passes only while it waits: minutes of timers take milliseconds.

A test module uses it by this fixture:

    @pytest.fixture(scope="module")
    def anyio_backend() -> Any:
        return BACKEND
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from datetime import datetime, timedelta

from tests.support.clock import NOON
from workpool_operator.clock import Clock


class SimulatedClock(Clock):
    """The time of the running loop, which begins at noon."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.monotonic())


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs coroutines that wait for each other and for timers, not for sockets or threads."""

    def __init__(self) -> None:
        self._seconds = 0.0
        super().__init__(_Selector(self._advance))

    def time(self) -> float:
        return self._seconds

    def _advance(self, seconds: float) -> None:
        self._seconds += seconds


class _Selector(selectors.DefaultSelector):
    """Advances the time instead of waiting."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self._advance(timeout)
        return ready


BACKEND = ("asyncio", {"loop_factory": SimulatedLoop})
