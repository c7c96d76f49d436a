"""Slots are counted from what exists, so that none can leak."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.snapshots import NOW, RUN_ID, job, pending, pod, record, run, state
from workpool_operator.runs.capacity import Capacity, InFlight, Stage, stage_of
from workpool_operator.runs.settings import PollSettings
from workpool_operator.runs.store import RunRecord

ME = {str(RUN_ID)}
CLAIMED = record(run(pending()), mine="claim")
OFFERED = record(run(state("SCHEDULED")), offered_at=NOW)
RUNNING = record(run("RUNNING"))


def in_flight(known: RunRecord | None = None, **objects: Any) -> InFlight:
    capacity = Capacity()
    stage = stage_of(known, objects.get("jobs", ()), objects.get("pods", ()))
    capacity.update(str(RUN_ID), stage)
    return capacity.in_flight


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
    assert in_flight(known, **objects).slots == slots


@pytest.mark.parametrize(
    ("known", "objects", "pods"),
    [
        (OFFERED, {}, 1),
        (CLAIMED, {}, 1),
        (CLAIMED, {"jobs": [job()]}, 1),
        (CLAIMED, {"jobs": [job()], "pods": [pod()]}, 1),
        (CLAIMED, {"jobs": [job(suspended=True)]}, 0),
        (RUNNING, {"jobs": [job()], "pods": [pod(phase="Running")]}, 0),
        (RUNNING, {"jobs": [job()]}, 1),
        (RUNNING, {"jobs": [job()], "pods": [pod(phase="Succeeded", exit_code=0)]}, 0),
        (CLAIMED, {"jobs": [job()], "pods": [pod(phase="Failed", pod_reason="Evicted")]}, 1),
        (RUNNING, {"jobs": [job(ended="Complete")]}, 0),
        (None, {}, 0),
    ],
)
def test_a_run_has_a_pending_pod_from_its_offer_until_its_flow_container_has_started(
    known: RunRecord | None, objects: dict[str, Any], pods: int
) -> None:
    assert in_flight(known, **objects).pending_pods == pods


def test_a_run_is_running_once_a_container_has_started() -> None:
    assert in_flight(jobs=[job()], pods=[pod()]).pending == ME
    assert in_flight(jobs=[job()], pods=[pod(phase="Running")]).running == ME
    assert not in_flight(jobs=[job()], pods=[pod(phase="Running")]).pending


def test_a_run_whose_job_is_suspended_is_in_flight_and_takes_no_slot() -> None:
    """It is not claimed again, although it takes no slot."""
    seen = in_flight(jobs=[job(suspended=True)])
    assert seen.pending == seen.suspended == ME
    assert str(RUN_ID) in seen
    assert seen.slots == 0


STAGES = st.sampled_from([None, *Stage])
CHANGES = st.lists(st.tuples(st.sampled_from("abc"), STAGES), max_size=20)


@given(CHANGES)
def test_what_is_counted_depends_on_the_present_stages_alone(
    changes: list[tuple[str, Stage | None]],
) -> None:
    changed, fresh = Capacity(), Capacity()
    for run_id, stage in changes:
        before = taken(changed.in_flight)
        freed = changed.update(run_id, stage)
        after = taken(changed.in_flight)
        assert freed == any(now < then for now, then in zip(after, before, strict=True))
    for run_id, stage in dict(changes).items():
        fresh.update(run_id, stage)
    assert changed.in_flight == fresh.in_flight
    assert set(changed.in_flight) == {run_id for run_id, stage in dict(changes).items() if stage}


def taken(by: InFlight) -> list[int]:
    return [by.slots, by.pending_pods, len(by.claimed)]


def many(*, running: int = 0, pending: int = 0, suspended: int = 0) -> InFlight:
    capacity = Capacity()
    stages = [Stage.RUNNING] * running + [Stage.STARTING] * pending + [Stage.SUSPENDED] * suspended
    for number, stage in enumerate(stages):
        capacity.update(str(number), stage)
    return capacity.in_flight


@pytest.mark.parametrize(
    ("taken", "limits", "free"),
    [
        (many(running=3, pending=2), {}, float("inf")),
        (many(running=3, pending=2), {"concurrency_limit": 7}, 2),
        (many(running=3, pending=2), {"concurrency_limit": 5}, 0),
        (many(running=3, pending=2), {"concurrency_limit": 4}, 0),
        (many(running=3, pending=2), {"max_pending_pods": 3}, 1),
        (many(running=3, pending=2), {"max_pending_pods": 2}, 0),
        (many(running=3, pending=2), {"max_pending_pods": 1}, 0),
        (many(running=3, pending=2, suspended=9), {"max_pending_pods": 3}, 1),
        (many(running=3, pending=2), {"max_pending_pods": 3, "concurrency_limit": 5}, 0),
        (many(running=3, pending=2), {"max_pending_pods": 3, "concurrency_limit": 10}, 1),
    ],
)
def test_the_tighter_limit_says_how_many_runs_may_be_claimed(
    taken: InFlight, limits: dict[str, int], free: float
) -> None:
    settings = PollSettings(**limits)
    assert taken.free_slots(settings) == free
    assert (taken.shortage(settings) is None) == (free > 0)


def test_a_shortage_names_its_field_and_the_figures() -> None:
    taken = many(running=3, pending=2)
    full = taken.shortage(PollSettings(concurrency_limit=5))
    assert full is not None
    assert full.reason == "AtCapacity"
    assert "spec.concurrencyLimit (5) are taken" in full.message
    waiting = taken.shortage(PollSettings(max_pending_pods=2, concurrency_limit=10))
    assert waiting is not None
    assert waiting.reason == "AtCapacity"
    assert waiting.message == (
        "2 runs wait for their flow container to start, and spec.jobs.maxPendingPods is 2: "
        "due runs wait until one has started."
    )
