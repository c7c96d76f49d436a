"""The clock that classes take as an argument, so that a test can set the time.

Sleeps and timers use the event loop's time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Reads the system's time."""

    def monotonic(self) -> float:
        """Return seconds since a fixed point, for durations and deadlines."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the date and time in UTC, for what servers and people read."""
        return datetime.now(UTC)


SYSTEM_CLOCK = Clock()
