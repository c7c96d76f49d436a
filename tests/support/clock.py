"""A clock that changes only when a test advances it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workpool_operator.clock import Clock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FakeClock(Clock):
    """Starts at noon."""

    def __init__(self) -> None:
        self._passed = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self._passed

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self._passed)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += seconds
