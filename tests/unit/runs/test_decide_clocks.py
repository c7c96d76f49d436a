"""The clocks of Prefect, Kubernetes and the operator may differ: decisions do not depend on it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.snapshots import (
    NOW,
    WALL,
    claim,
    job,
    pending,
    pod,
    read_at,
    record,
    run,
    snapshot_of,
    state,
)
from workpool_operator.runs.actions import Action, ClaimRun, DeleteJob, ReportCrashed, RequeueAfter
from workpool_operator.runs.decide import decide
from workpool_operator.runs.settings import Timeouts
from workpool_operator.runs.store import RunRecord

POLICY = Timeouts(pending_timeout=60)
AHEAD = [timedelta(seconds=seconds) for seconds in (-30, 0, 30)]


def claimed_at(when: datetime) -> RunRecord:
    current = run(pending(at=when), pid=job().name)
    return read_at(record(current, claim=claim(timestamp=when)), NOW)


def decided(known: RunRecord, ahead: timedelta, **objects: Any) -> Action:
    return decide(snapshot_of(known, **objects), POLICY, wall=WALL, prefect_ahead=ahead)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_pending_time_out_counts_from_the_claim_by_prefects_clock(ahead: timedelta) -> None:
    begun = WALL - timedelta(seconds=45)
    objects: dict[str, Any] = {"jobs": (job(created=begun, started_at=begun),), "pods": (pod(),)}
    assert not isinstance(decided(claimed_at(begun + ahead), ahead, **objects), ReportCrashed)
    begun = WALL - timedelta(seconds=75)
    objects = {"jobs": (job(created=begun, started_at=begun),), "pods": (pod(),)}
    assert isinstance(decided(claimed_at(begun + ahead), ahead, **objects), ReportCrashed)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_refused_claim_waits_for_the_time_that_prefect_named_by_its_clock(
    ahead: timedelta,
) -> None:
    due = WALL + ahead + timedelta(seconds=12)
    known = read_at(record(run(state("SCHEDULED")), not_before=due), NOW)
    assert decided(known, ahead) == RequeueAfter(12.0)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_resumed_job_is_recognised_by_a_start_after_prefect_rescheduled_its_run(
    ahead: timedelta,
) -> None:
    rescheduled = WALL + ahead - timedelta(seconds=20)
    known = read_at(record(run(state("SCHEDULED", at=rescheduled)), offered_at=NOW), NOW)
    later = job(noted="False", started_at=WALL - timedelta(seconds=10))
    assert decided(known, ahead, jobs=(later,)) == ClaimRun()
    earlier = job(noted="False", started_at=WALL - timedelta(seconds=25))
    assert decided(known, ahead, jobs=(earlier,)) != ClaimRun()


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_process_that_began_before_its_reported_end_keeps_its_time_for_hooks(
    ahead: timedelta,
) -> None:
    over = WALL + ahead - timedelta(seconds=40)
    known = read_at(record(run(state("COMPLETED", at=over), pid=job().name)), NOW)
    running = pod(phase="Running", running=WALL - timedelta(seconds=50))
    known = snapshot_of(known, now=NOW - 40, jobs=(job(),), pods=(running,)).record
    action = decided(known, ahead, jobs=(job(),), pods=(running,))
    assert not isinstance(action, DeleteJob)
