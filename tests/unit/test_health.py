"""Liveness names a loop that is stuck; nothing else fails it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.operator_context import operator_context
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.context import Binding
from workpool_operator.binding.deletion import Deletion
from workpool_operator.binding.session import BindingSession
from workpool_operator.health import Watchdog


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_loop_that_reports_in_time_is_not_overdue(clock: FakeClock) -> None:
    watchdog = Watchdog(clock)
    watchdog.beat("data/etl status", within=60)
    clock.advance(59)
    assert watchdog.overdue() == []
    watchdog.beat("data/etl status", within=60)
    clock.advance(59)
    assert watchdog.overdue() == []


def test_a_stuck_loop_is_named_with_the_seconds_by_which_it_is_late(clock: FakeClock) -> None:
    watchdog = Watchdog(clock)
    watchdog.beat("data/etl status", within=60)
    watchdog.beat("data/etl checks", within=300)
    clock.advance(65)
    assert watchdog.overdue() == ["data/etl status is 5 s late"]


def test_a_loop_that_ended_is_never_overdue(clock: FakeClock) -> None:
    watchdog = Watchdog(clock)
    watchdog.beat("data/etl status", within=60)
    watchdog.stop("data/etl status")
    watchdog.stop("never started")
    clock.advance(1000)
    assert watchdog.overdue() == []


async def test_a_session_whose_requests_never_return_is_overdue_until_it_ends(
    clock: FakeClock,
) -> None:
    """Every request has a timeout, so only a bug in the operator can cause this."""
    watchdog = Watchdog(clock)
    task = asyncio.create_task(session(watchdog).run())
    await asyncio.sleep(0.05)
    assert watchdog.overdue() == []
    clock.advance(121)
    assert watchdog.overdue() == ["data/etl status is 1 s late"]
    clock.advance(180)
    assert "data/etl connections is 1 s late" in watchdog.overdue()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert watchdog.overdue() == []


def session(watchdog: Watchdog) -> BindingSession:
    """Return a session whose requests to Kubernetes never return."""

    async def never(*_: object, **__: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    kube: Any = SimpleNamespace(get=never, request=never, rights=never, namespace="home")
    reference = {"secretKeyRef": {"name": "prefect", "key": "key"}}
    server = {"url": "http://prefect/api", "apiKey": reference}
    spec = Spec.model_validate({"workPool": {"name": "etl"}, "server": server})
    binding = Binding("data", "etl", spec=lambda: spec, generation=lambda: 1, status={})
    context = operator_context(kube, watchdog=watchdog)
    deletion = Deletion("data/etl", FakeClock())
    return BindingSession(binding, context, cluster_id="cluster", deletion=deletion)
