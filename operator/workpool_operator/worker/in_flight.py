"""The runs that a worker has in flight, and how they count against its limit. Plain data.

Prefect's limiter holds a slot for each polled run. A run that is adopted from an earlier worker can
find all slots taken: it waits, and takes the next free one.
"""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import anyio


class InFlightRuns:
    """Runs, from their submission until no pod of their Jobs runs any more."""

    def __init__(self) -> None:
        self._in_flight: set[UUID] = set()
        self._without_slot: dict[UUID, None] = {}  # in order of arrival

    def __contains__(self, run_id: UUID) -> bool:
        return run_id in self._in_flight

    def add(self, run_id: UUID, *, has_slot: bool = True) -> None:
        """Add the run; without a slot if Prefect's limiter does not know it."""
        self._in_flight.add(run_id)
        if not has_slot:
            self._without_slot[run_id] = None

    def discard(self, run_id: UUID) -> None:
        """Remove the run."""
        self._in_flight.discard(run_id)
        self._without_slot.pop(run_id, None)

    def fill_free_slots(self, limiter: anyio.CapacityLimiter | None) -> None:
        """Give free slots to the runs without one, before new runs take them."""
        with suppress(anyio.WouldBlock):
            for run_id in tuple(self._without_slot):
                if limiter is not None:
                    limiter.acquire_on_behalf_of_nowait(run_id)
                del self._without_slot[run_id]
