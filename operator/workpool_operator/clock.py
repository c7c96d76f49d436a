"""The clock that classes take as an argument, so that a test can set the time.

Sleeps and timers use the event loop's time.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

log = logging.getLogger(__name__)

OBSERVE_SECONDS = 10.0
SMALLEST_SECONDS = 2.0  # a Date header has whole seconds, and an answer takes its time
LOGGED_SECONDS = 5.0


class Clock:
    """Reads the system's time."""

    def monotonic(self) -> float:
        """Return seconds since a fixed point, for durations and deadlines."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the date and time in UTC, for what servers and people read."""
        return datetime.now(UTC)


SYSTEM_CLOCK = Clock()


class ServerClock(Clock):
    """The clock of a server, by which its timestamps are to be read.

    It may differ from this machine's: the Date header of the server's answers shows by how much.
    """

    def __init__(self, server: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._server = server
        self._clock = clock
        self._ahead = timedelta()
        self._observed_at = float("-inf")

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._clock.monotonic()

    def now(self) -> datetime:
        """Return the server's date and time in UTC."""
        return self._clock.now() + self._ahead

    def observe(self, date: str | None) -> None:
        """Compare the clocks by the Date header of an answer that has just arrived."""
        now = self._clock.monotonic()
        if not date or now - self._observed_at < OBSERVE_SECONDS:
            return
        try:
            server = parsedate_to_datetime(date)
        except ValueError:
            return
        self._observed_at = now
        ahead = server.astimezone(UTC) + timedelta(seconds=0.5) - self._clock.now()
        self._set(ahead if abs(ahead.total_seconds()) >= SMALLEST_SECONDS else timedelta())

    def _set(self, ahead: timedelta) -> None:
        """Use the difference, and log it if it is new and large."""
        seconds, before = ahead.total_seconds(), self._ahead.total_seconds()
        self._ahead = ahead
        if abs(seconds - before) < LOGGED_SECONDS:
            return
        if abs(seconds) < LOGGED_SECONDS:
            log.info("The clock of %s agrees with this machine's again.", self._server)
            return
        log.warning(
            "The clock of %s is %.0f s %s this machine's. The operator reads its timestamps by its "
            "clock; set both by NTP.",
            self._server,
            abs(seconds),
            "ahead of" if seconds > 0 else "behind",
        )


@dataclass(frozen=True, slots=True)
class Clocks:
    """This machine's own clock, for durations, and those of the servers, for their timestamps."""

    own: Clock = SYSTEM_CLOCK
    kubernetes: Clock = SYSTEM_CLOCK
    prefect: Clock = SYSTEM_CLOCK


SYSTEM_CLOCKS = Clocks()
