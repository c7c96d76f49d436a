"""While the API server refuses Jobs for now, no further runs are claimed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.snapshots import NOW, RUN_ID, id_of, pending, record, run
from workpool_operator.errors import KubernetesForbidden
from workpool_operator.jobs.diagnosis import (
    WaitReason,
    exceeded_quota,
    how_to_free,
    no_pods_reason,
)
from workpool_operator.kube.models import Event
from workpool_operator.runs.back_pressure import (
    SLOW_START_SECONDS,
    BackPressure,
    exhausted_quota,
)
from workpool_operator.runs.capacity import InFlight
from workpool_operator.runs.job_creator import transient_reason
from workpool_operator.runs.store import RunRecord

FIGURES = "few, requested: pods=1, used: pods=3, limited: pods=3"
REFUSED = f'jobs.batch "a" is forbidden: exceeded quota: {FIGURES}'
NOTHING = InFlight()
CLAIMED = record(run(pending()), mine="claim")


def test_a_refusal_names_the_quota_and_its_figures() -> None:
    assert exceeded_quota(REFUSED) == FIGURES
    assert exceeded_quota('jobs.batch "a" is forbidden: no') == ""


def test_a_quota_of_a_number_of_jobs_gets_room_only_if_those_that_ended_are_deleted():
    assert "delete Jobs that have ended" in how_to_free("team, requested: count/jobs.batch=1")
    assert how_to_free("team, requested: limits.memory=1Gi") == "raise it, or end other Jobs"
    refusal = transient_reason(KubernetesForbidden(REFUSED))
    assert refusal is not None
    assert refusal.quota == FIGURES
    pods = 'Error creating: pods "a-1" is forbidden: exceeded quota: few, requested: pods=1'
    wait = no_pods_reason(
        [Event(type="Warning", reason="FailedCreate", message=pods)], what="Job a"
    )
    assert wait is not None
    assert (wait.category, wait.quota) == ("FailedCreate", "few, requested: pods=1")


WAIT = WaitReason("QuotaExceeded", "", quota=FIGURES)


@pytest.mark.parametrize(
    ("facts", "quota"),
    [
        ({}, ""),
        ({"refusal": WAIT}, FIGURES),
        ({"refusal": WaitReason("JobRefused", "")}, ""),
        ({"event_reason": WAIT, "events_read_at": NOW, "since": {"podless": NOW - 2}}, FIGURES),
        ({"event_reason": WAIT, "events_read_at": NOW, "since": {}}, ""),
        ({"event_reason": WAIT, "events_read_at": NOW - 9, "since": {"podless": NOW - 2}}, ""),
        ({"events_read_at": NOW, "since": {"podless": NOW - 2}}, ""),
        ({"refusal": WAIT, "claim": None}, ""),
    ],
)
def test_a_run_waits_for_a_quota_while_it_refuses_the_runs_job_or_pods(
    facts: dict[str, Any], quota: str
) -> None:
    assert exhausted_quota(replace(CLAIMED, **facts)) == quota


def test_an_unknown_run_waits_for_nothing() -> None:
    assert exhausted_quota(None) == exhausted_quota(RunRecord()) == ""


def test_while_a_run_waits_for_a_quota_no_run_is_claimed_and_the_message_names_the_quota() -> None:
    pressure = BackPressure()
    assert pressure.free_slots(NOTHING, now=NOW) == float("inf")
    assert pressure.shortage(NOTHING, now=NOW) is None
    assert not pressure.note_quota(RUN_ID, FIGURES, now=NOW)
    assert pressure.holds_claims(NOW)
    assert pressure.free_slots(NOTHING, now=NOW) == 0
    shortage = pressure.shortage(NOTHING, now=NOW)
    assert shortage is not None
    assert shortage.reason == "QuotaExceeded"
    assert "few is exhausted (requested: pods=1, used: pods=3, limited" in shortage.message
    assert pressure.note_quota(RUN_ID, "", now=NOW)
    assert not pressure.holds_claims(NOW)


def test_the_run_that_has_waited_longest_probes_the_quota() -> None:
    pressure = BackPressure()
    assert pressure.probe is None
    first, second = id_of("first"), id_of("second")
    pressure.note_quota(first, FIGURES, now=NOW)
    pressure.note_quota(second, FIGURES, now=NOW)
    pressure.note_quota(first, FIGURES, now=NOW + 1)
    assert pressure.probe == first
    assert pressure.is_probed_by_other(second)
    assert not pressure.is_probed_by_other(first)
    assert pressure.note_quota(first, "", now=NOW + 2)
    assert pressure.probe == second
    assert pressure.holds_claims(NOW + 2)


def test_a_run_that_waited_beside_the_probe_makes_no_room_by_its_end() -> None:
    pressure = BackPressure()
    first, second = id_of("first"), id_of("second")
    pressure.note_quota(first, FIGURES, now=NOW)
    pressure.note_quota(second, FIGURES, now=NOW)
    assert not pressure.note_quota(second, "", now=NOW)
    assert pressure.probe == first


def test_after_a_quota_had_room_again_claims_start_slowly() -> None:
    pressure = BackPressure()
    pressure.note_quota(RUN_ID, FIGURES, now=NOW - 1)
    pressure.note_quota(RUN_ID, "", now=NOW)
    one = InFlight(pending={"a"}, claimed={"a"})
    assert pressure.free_slots(NOTHING, now=NOW) == 1
    assert pressure.free_slots(one, now=NOW) == 0
    shortage = pressure.shortage(one, now=NOW)
    assert shortage is not None
    assert shortage.reason == "QuotaExceeded"
    assert pressure.free_slots(one, now=NOW + 2.5) == 3
    assert pressure.free_slots(one, now=NOW + SLOW_START_SECONDS) == float("inf")


def test_until_the_time_that_the_api_server_names_no_job_is_created_and_no_run_claimed() -> None:
    pressure = BackPressure()
    assert pressure.paused_seconds(NOW) == 0
    assert pressure.note_retry_after(5, now=NOW) == 5
    assert pressure.note_retry_after(1, now=NOW + 1) == 4, "an earlier, longer wait holds"
    assert pressure.paused_seconds(NOW + 2) == 3
    assert pressure.holds_claims(NOW + 4.9)
    assert not pressure.holds_claims(NOW + 5)
    shortage = pressure.shortage(NOTHING, now=NOW)
    assert shortage is not None
    assert shortage.reason == "TooManyRequests"
    assert pressure.shortage(NOTHING, now=NOW + 5) is None
