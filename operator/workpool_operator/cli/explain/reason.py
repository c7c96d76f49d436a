"""A reason why a run is, or is not, running, and how to say times. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from workpool_operator.cli.explain.snapshot import Holder
from workpool_operator.cli.status_report import age_of

MOST_LISTED = 5
_SAME_DAY = timedelta(hours=20)  # a time of day that is nearer can mean no other day


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that explains the run: a CamelCase word, a message, and the next step.

    `holds`: the run waits for it. `holders` are the runs or Jobs that take what the run needs.
    """

    reason: str
    message: str
    next_step: str = ""
    holds: bool = True
    holders: tuple[Holder, ...] = ()


def at(time: datetime | None, now: datetime) -> str:
    """Return the time of day in UTC, with the date if it is far from now."""
    if time is None:
        return "an unknown time"
    utc = time.astimezone(UTC)
    day = "" if abs(now - time) < _SAME_DAY else f"{utc:%Y-%m-%d} "
    return f"{day}{utc:%H:%M:%S} UTC"


def since(time: datetime | None, now: datetime) -> str:
    """Return the time and how long ago it was, such as `since 03:20:11 UTC (4m10s)`."""
    return f"since {at(time, now)} ({age_of(time, now)})" if time else "since an unknown time"


def sentences(*parts: str | None) -> str:
    """Return the parts, each of which ends with a full stop, as one line."""
    texts = (" ".join((part or "").split()).rstrip(".") for part in parts)
    return " ".join(f"{text}." for text in texts if text)


def describe(kind: str, namespace: str, name: str) -> str:
    """Return the command that shows everything about an object."""
    return f"kubectl -n {namespace} describe {kind} {name}"


def listed(names: Iterable[str], *, most: int = MOST_LISTED) -> str:
    """Return the names, and how many others there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
