"""Reads Kueue's Events about a Job that waits in a queue. Pure.

It does not read the Workload itself, because that needs a permission on Kueue's own API.
"""

from __future__ import annotations

from collections.abc import Sequence

from workpool_operator.kube.models import Event


def workload_name(events: Sequence[Event]) -> str:
    """Return the name of the Job's Workload, from the Job's Events; "" if none names it."""
    created = [event.message for event in events if event.reason == "CreatedWorkload"]
    return created[-1].rpartition("/")[2].strip() if created else ""


def pending_reason(events: Sequence[Event]) -> str:
    """Return what the Workload waits for, from its own Events; "" if none has it."""
    reasons = [event.message for event in events if event.reason == "Pending"]
    return reasons[-1].strip().rstrip(".") if reasons else ""
