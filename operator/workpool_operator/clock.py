"""The clock that a part is given, so that a test can set the time.

Sleeps and timers are the event loop's.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The system's time."""

    def monotonic(self) -> float:
        """Return seconds since a fixed point: for durations and deadlines."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the date and time in UTC: for what servers and people read."""
        return datetime.now(UTC)


SYSTEM_CLOCK = Clock()
