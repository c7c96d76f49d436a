"""Which runs a worker has in flight, and how they count against its limit. Plain data.

Prefect's limiter holds a seat for each run that was polled. A run that is taken over from an
earlier worker may find all of them taken: it stands, and has the next one that becomes free.
"""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import anyio


class InFlightRuns:
    """Runs from their submission until nothing of their Jobs runs any more."""

    def __init__(self) -> None:
        self._in_flight: set[UUID] = set()
        self._standing: dict[UUID, None] = {}  # in order of arrival

    def __contains__(self, run_id: UUID) -> bool:
        return run_id in self._in_flight

    def add(self, run_id: UUID, *, standing: bool = False) -> None:
        """The run is in flight; `standing` if the limiter does not know it."""
        self._in_flight.add(run_id)
        if standing:
            self._standing[run_id] = None

    def discard(self, run_id: UUID) -> None:
        """The run is in flight no more."""
        self._in_flight.discard(run_id)
        self._standing.pop(run_id, None)

    def fill_free_slots(self, limiter: anyio.CapacityLimiter | None) -> None:
        """Give those that stand the free seats, before anybody new has one."""
        with suppress(anyio.WouldBlock):
            for run_id in tuple(self._standing):
                if limiter is not None:
                    limiter.acquire_on_behalf_of_nowait(run_id)
                del self._standing[run_id]
