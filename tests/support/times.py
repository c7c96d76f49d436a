"""Measures the seconds between events that two servers of one machine recorded."""

from __future__ import annotations

from datetime import datetime

from tests.support.kube import Object


def seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def until_state(run: Object) -> float:
    """Return the seconds from the run's creation to its present state."""
    return seconds(run["created"], run["state"]["timestamp"])


def since_exit(pod: Object, run: Object) -> float:
    """Return the seconds from the end of the pod's process to the run's present state."""
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    return seconds(ended, run["state"]["timestamp"])
