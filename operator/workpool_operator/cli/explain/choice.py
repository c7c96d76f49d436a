"""Chooses the run of a binding that a person would ask about: the one that has waited longest, or
if none has waited for a minute, the one that crashed last."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from workpool_operator.binding.context import Binding
from workpool_operator.cli.explain.scheduled import AWAITING_SLOT, CLAIMED_SOON
from workpool_operator.prefect_api import lookup
from workpool_operator.prefect_api.client import PAGE_SIZE, PrefectApi
from workpool_operator.prefect_api.models import Run

CRASHED_WITHIN = timedelta(days=1)

Filters = dict[str, Any]


async def choose_run(api: PrefectApi, binding: Binding) -> tuple[Run | None, str]:
    """Return the run of the binding's pool and queues and why it is this one; None if none waits
    and none has crashed within a day.

    Raises:
        NotFound: the server has no such pool.
        OperatorError: the server does not answer.
    """
    spec, now = binding.spec(), api.clock.now()
    pool = spec.work_pool.pool_name
    await lookup.pool(api, pool)
    where: Filters = {"work_pools": {"name": {"any_": [pool]}}}
    if spec.work_queues:
        where["work_pool_queues"] = {"name": {"any_": list(spec.work_queues)}}
    unfinished = await _unfinished(api, where, before=now)
    waiting = waiting_longest_first(unfinished, now)
    more = " or more" if len(unfinished) == PAGE_SIZE else ""
    why = f"it has waited longest of {len(waiting)}{more} that wait"
    if waiting and waits_since(waiting[0], now) < now - CLAIMED_SOON:
        return waiting[0], why
    if crashed := await _crashed(api, where, after=now - CRASHED_WITHIN):
        return crashed[0], "it crashed last, and no run has waited for a minute"
    return (waiting[0], why) if waiting else (None, "")


async def _unfinished(api: PrefectApi, where: Filters, *, before: datetime) -> list[Run]:
    runs = {
        "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}},
        "expected_start_time": {"before_": before.isoformat()},
    }
    return await api.filter_runs({**where, "flow_runs": runs, "sort": "EXPECTED_START_TIME_ASC"})


async def _crashed(api: PrefectApi, where: Filters, *, after: datetime) -> list[Run]:
    runs = {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": after.isoformat()}}
    return await api.filter_runs({**where, "flow_runs": runs, "sort": "END_TIME_DESC", "limit": 1})


def waiting_longest_first(runs: Iterable[Run], now: datetime) -> list[Run]:
    """Return the runs that wait for somebody: those that are claimed, and those that are due. A run
    that Prefect has put off for a slot is due, one that is to be retried later is not."""
    waiting = [run for run in runs if _waits(run, now)]
    return sorted(waiting, key=lambda run: waits_since(run, now))


def _waits(run: Run, now: datetime) -> bool:
    if run.state_type == "PENDING" or run.state_name == AWAITING_SLOT:
        return True
    due = run.next_scheduled_start_time
    return due is not None and due <= now and not run.retries_in_process


def waits_since(run: Run, now: datetime) -> datetime:
    """Return since when the run waits: it was to start then, or if it has run before, since its
    state."""
    expected = run.document.get("expected_start_time")
    if run.start_time is None and expected:
        return datetime.fromisoformat(expected)
    due, state = run.next_scheduled_start_time, run.state
    return due or (state.timestamp if state and state.timestamp else now)
