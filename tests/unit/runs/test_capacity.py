"""Slots are counted from what exists, so that none can leak."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.snapshots import NOW, RUN_ID, job, pending, pod, record, run, state
from workpool_operator.runs.capacity import count_in_flight
from workpool_operator.runs.store import RunRecord

ME = frozenset({str(RUN_ID)})
CLAIMED = record(run(pending()), mine="claim")
OFFERED = record(run(state("SCHEDULED")), offered_at=NOW)
RUNNING = record(run("RUNNING"))


def in_flight(known: RunRecord | None = None, **objects: Any) -> int:
    records = [] if known is None else [(RUN_ID, known)]
    return count_in_flight(records, objects.get("jobs", ()), objects.get("pods", ())).slots


@pytest.mark.parametrize(
    ("known", "objects", "slots"),
    [
        (None, {}, 0),
        (OFFERED, {}, 1),
        (CLAIMED, {}, 1),
        (CLAIMED, {"jobs": [job()]}, 1),
        (CLAIMED, {"jobs": [job()], "pods": [pod()]}, 1),
        (RUNNING, {"jobs": [job()], "pods": [pod(phase="Running")]}, 1),
        (RUNNING, {"jobs": [job(ended="Complete")], "pods": [pod(phase="Running")]}, 1),
        (RUNNING, {"jobs": [], "pods": [pod(phase="Running")]}, 1),
        (RUNNING, {"jobs": [job("old"), job()]}, 1),
        (RUNNING, {"jobs": [job(ended="Complete")], "pods": [pod(phase="Succeeded")]}, 0),
        (RUNNING, {}, 0),
        (CLAIMED, {"jobs": [job(suspended=True)]}, 0),
        (CLAIMED, {"jobs": [job(suspended=True)], "pods": [pod(phase="Running")]}, 1),
        (CLAIMED, {"jobs": [job("old", ended="Failed"), job(suspended=True)]}, 0),
        (record(run(state("SCHEDULED"))), {"jobs": [job(suspended=True)]}, 0),
        (record(run("PENDING")), {}, 0),
        (record(run(state("SCHEDULED"))), {}, 0),
        (record(None, missing=True), {}, 0),
    ],
)
def test_a_run_takes_one_slot_from_its_offer_until_its_pods_are_deleted(
    known: RunRecord | None, objects: dict[str, Any], slots: int
) -> None:
    assert in_flight(known, **objects) == slots


def test_a_run_is_running_once_a_container_has_started() -> None:
    assert count_in_flight((), [job()], [pod()]).pending == ME
    assert count_in_flight((), [job()], [pod(phase="Running")]).running == ME
    assert not count_in_flight((), [job()], [pod(phase="Running")]).pending


def test_a_run_whose_job_is_suspended_is_in_flight_and_takes_no_slot() -> None:
    """It is not claimed again, although it takes no slot."""
    seen = count_in_flight((), [job(suspended=True)], [])
    assert seen.pending == seen.suspended == ME
    assert seen.slots == 0
