"""What Kueue's Events say about a Job that it holds. Pure.

Events are read, and not the Workload itself: that would take a right on Kueue's own API.
"""

from __future__ import annotations

from collections.abc import Sequence

from workpool_operator.kube.models import Event


def workload_name(events: Sequence[Event]) -> str:
    """The name of the Workload that stands for a Job, by the Job's Events; "" where none tells."""
    created = [event.message for event in events if event.reason == "CreatedWorkload"]
    return created[-1].rpartition("/")[2].strip() if created else ""


def pending_reason(events: Sequence[Event]) -> str:
    """What the Workload lacks, by its own Events; "" where none tells."""
    lacks = [event.message for event in events if event.reason == "Pending"]
    return lacks[-1].strip().rstrip(".") if lacks else ""
