"""The status that is built from what a session knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from workpool_operator.binding.conditions import Conditions, ConditionState, ServingState
from workpool_operator.binding.status import StatusInput, build_status
from workpool_operator.prefect_api.models import WorkPool

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
INPUT = StatusInput(
    generation=3,
    worker_name="etl.data@1234",
    pool_name="etl",
    server_url="http://prefect/api",
    states=Conditions().states(),
    serving=ServingState(),
)


def test_a_status_has_what_the_session_knows() -> None:
    pool = WorkPool(id=UUID(int=7), name="etl", type="kubernetes", is_paused=True)
    status_input = replace(INPUT, pool=pool, server_version="3.8.8", running=1, pending=2, queued=3)
    status = build_status(status_input, before={}, now=NOON)
    assert status["observedGeneration"] == 3
    assert status["workerName"] == "etl.data@1234"
    pool_status = {"name": "etl", "id": str(UUID(int=7)), "type": "kubernetes", "paused": True}
    assert status["workPool"] == pool_status | {"syncedTemplate": None}
    assert status["server"] == {"url": "http://prefect/api", "version": "3.8.8"}
    assert status["runs"] == {"running": 1, "pending": 2, "queued": 3}
    assert [each["type"] for each in status["conditions"]][:2] == ["Ready", "Claiming"]


def test_conditions_that_do_not_affect_ready_come_last() -> None:
    status_input = replace(
        INPUT, extra_conditions={"PoolShared": ConditionState("True", "OtherBinding", "data/b")}
    )
    conditions = build_status(status_input, before={}, now=NOON)["conditions"]
    assert conditions[-1]["type"] == "PoolShared"
    assert conditions[-1]["message"] == "data/b"


def test_a_poll_within_30_seconds_does_not_change_the_status() -> None:
    before = build_status(replace(INPUT, polled_at=NOON), before={}, now=NOON)
    soon = NOON + timedelta(seconds=29)
    assert build_status(replace(INPUT, polled_at=soon), before=before, now=soon) == before


def test_the_time_of_the_last_poll_changes_every_30_seconds() -> None:
    before = build_status(replace(INPUT, polled_at=NOON), before={}, now=NOON)
    later = NOON + timedelta(seconds=30)
    after = build_status(replace(INPUT, polled_at=later), before=before, now=later)
    assert after == before | {"lastPollTime": "2026-01-01T12:00:30Z"}


def test_the_last_poll_of_an_earlier_process_is_kept_until_the_first_poll() -> None:
    earlier = {"lastPollTime": "2026-01-01T11:00:00Z"}
    assert build_status(INPUT, before=earlier, now=NOON)["lastPollTime"] == "2026-01-01T11:00:00Z"


def test_the_template_that_both_had_is_remembered_without_a_session() -> None:
    before = build_status(replace(INPUT, synced_template="4711"), before={}, now=NOON)
    assert before["workPool"]["syncedTemplate"] == "4711"
    assert build_status(INPUT, before=before, now=NOON)["workPool"]["syncedTemplate"] == "4711"
