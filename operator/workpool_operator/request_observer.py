"""How the clients of both APIs report their requests, for metrics. Pure."""

from __future__ import annotations

from typing import Protocol

NO_ANSWER = 0  # instead of a status


class RequestObserver(Protocol):
    """Handles one request; it must not block."""

    def __call__(self, verb: str, status: int, seconds: float) -> None:
        """Handle the answer to an HTTP method, or a WATCH that was opened, after so many seconds.
        The status is `NO_ANSWER` if there was none."""


def ignore(verb: str, status: int, seconds: float) -> None:
    """Do nothing: the requests are not counted."""
