"""Keeps requests back until the time that the server named (`Retry-After`).

A server limits the requests of a client, not those of a run: if each run found out by itself, each
would send one more. Prefect Cloud has a limit for each kind of object, so that logs over their
limit do not stop claims.
"""

from __future__ import annotations

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import PrefectThrottled, PrefectUnavailable


class RetryAfter:
    """The times that one server named, by the first part of the path, such as `flow_runs`."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def check(self, path: str) -> None:
        """
        Raises:
            PrefectThrottled: it is too early for this request, which is not sent.
        """
        rest = self._until.get(_kind(path), 0.0) - self._clock.monotonic()
        if rest > 0:
            text = f"{path}: not sent, because the server asked to wait {rest:.0f} s"
            raise PrefectThrottled(text, retry_after=rest)

    def note(self, path: str, error: PrefectUnavailable) -> None:
        """Record the time that the answer to this request named, if it named one."""
        if error.retry_after:
            self._until[_kind(path)] = self._clock.monotonic() + error.retry_after


def _kind(path: str) -> str:
    return path.strip("/").partition("/")[0]
