"""How many offers may be open at once: about as many as are claimed in one second. Pure.

An offer that is not claimed within two seconds is dropped (docs/races.md, 2), and its run is read
again for nothing. Too few offers leave reconcilers idle while runs are due. The rate of claims
depends on the Prefect server, so it is measured: a burst begins with a small window, which can
double with each poll.
"""

from __future__ import annotations

SMALLEST = 16  # one for each reconciler
LARGEST = 200  # what one poll returns at most
# An offer waits at most so long if claims go on at the measured rate. The rest of the two seconds
# is for a server that becomes slower.
SECONDS = 1.25
GROWTH = 2


class OfferWindow:
    """The number of offers that may be open at once: `size`."""

    def __init__(self) -> None:
        self.size = SMALLEST
        self._closed = 0
        self._measured_at = float("-inf")

    def offer_closed(self) -> None:
        """Count an offer that was claimed, or refused: the rate follows from them."""
        self._closed += 1

    def is_low(self, open_offers: int) -> bool:
        """Return whether a burst has to offer more runs now: half of the window is free."""
        return open_offers <= self.size // 2

    def resize(self, *, is_burst: bool, open_offers: int, now: float) -> None:
        """Fit the window to the rate of claims since the last call, as a poll begins. In a burst
        the window, and nothing else, limited the offers of the last poll."""
        seconds, self._measured_at = now - self._measured_at, now
        closed, self._closed = self._closed, 0
        if not is_burst:
            self.size = SMALLEST
            return
        fitting = int(closed / seconds * SECONDS) if seconds > 0 else self.size
        if open_offers == 0:  # they ran out: more claims were possible
            fitting = max(fitting, self.size * GROWTH)
        fitting = min(max(fitting, self.size // GROWTH), self.size * GROWTH)
        self.size = min(max(fitting, SMALLEST), LARGEST)
