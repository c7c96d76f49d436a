"""Kueue's Events name a Job's Workload and what it waits for."""

from __future__ import annotations

from workpool_operator.jobs import kueue
from workpool_operator.kube.models import Event

CREATED = Event(
    reason="CreatedWorkload", message="Created Workload: data/job-etl-1a2b3", type="Normal"
)
LACKS = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor small"


def test_the_events_of_a_job_name_its_workload() -> None:
    suspended = Event(reason="Suspended", message="Job suspended", type="Normal")
    assert kueue.workload_name([CREATED, suspended]) == "job-etl-1a2b3"
    assert kueue.workload_name([suspended]) == ""


def test_the_last_event_of_a_workload_has_what_it_waits_for() -> None:
    events = [Event(reason="Pending", message=text) for text in ("queue is full", f"{LACKS}.")]
    assert kueue.pending_reason(events) == LACKS
    assert kueue.pending_reason([CREATED]) == ""
