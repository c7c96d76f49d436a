"""What the dispatch path reports to its owner."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Called at once, from within the loops: an implementation only notes what to do."""

    def capacity_freed(self) -> None:
        """A Job is over, or nothing is left to do for a run: a slot may be free."""
        ...

    def offer_expired(self) -> None:
        """An offer was too old to claim on: a poll is to make another."""
        ...
