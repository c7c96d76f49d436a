"""Seconds between what two servers of one machine say has happened."""

from __future__ import annotations

from datetime import datetime

from tests.support.kube import Object


def seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def until_state(run: Object) -> float:
    """From the run's creation to its present state."""
    return seconds(run["created"], run["state"]["timestamp"])


def since_exit(pod: Object, run: Object) -> float:
    """From the end of the pod's process to the run's present state."""
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    return seconds(ended, run["state"]["timestamp"])
