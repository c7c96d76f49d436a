"""The times that the demo shows at its end."""

from __future__ import annotations

from typing import Any

from testbed import timeline

HISTORY = [
    {"type": "SCHEDULED", "timestamp": "2026-01-01T10:00:00.500000Z"},
    {"type": "PENDING", "timestamp": "2026-01-01T10:00:00.700000Z"},
    {"type": "PENDING", "timestamp": "2026-01-01T10:00:01.200000Z"},
    {"type": "RUNNING", "timestamp": "2026-01-01T10:00:04.500000Z"},
    {"type": "COMPLETED", "timestamp": "2026-01-01T10:00:05.000000Z"},
]


def steps(*, job: str, pod: str, state: str = "terminated") -> dict[str, float]:
    run = {"created": "2026-01-01T10:00:00.500000Z"}
    started: dict[str, Any] = {state: {"startedAt": pod}}
    return timeline.steps(
        run,
        HISTORY,
        job={"metadata": {"creationTimestamp": job}},
        pod={"status": {"containerStatuses": [{"state": started}]}},
    )


def test_each_step_is_shown_in_seconds_since_the_run_was_created() -> None:
    shown = steps(job="2026-01-01T10:00:01Z", pod="2026-01-01T10:00:02Z")
    assert shown == {
        "run created": 0.0,
        "claimed by the operator": 0.2,
        "Job created": 0.5,
        "pod running": 1.5,
        "flow running": 4.0,
        "completed": 4.5,
    }


def test_a_time_that_kubernetes_cut_to_whole_seconds_is_not_before_its_cause() -> None:
    shown = steps(job="2026-01-01T10:00:00Z", pod="2026-01-01T10:00:00Z")
    assert shown["Job created"] == shown["pod running"] == shown["claimed by the operator"]


def test_a_pod_that_still_runs_has_its_time_too() -> None:
    shown = steps(job="2026-01-01T10:00:01Z", pod="2026-01-01T10:00:03Z", state="running")
    assert shown["pod running"] == 2.5
