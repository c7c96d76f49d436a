"""Liveness: a loop that does not come round is named; nothing else fails it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.clock import FakeClock
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.session import BindingSession
from workpool_operator.health import Watchdog


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_loop_in_time_is_not_stuck(clock: FakeClock) -> None:
    pulse = Watchdog(clock)
    pulse.beat("data/etl status", within=60)
    clock.advance(59)
    assert pulse.overdue() == []
    pulse.beat("data/etl status", within=60)
    clock.advance(59)
    assert pulse.overdue() == []


def test_a_stuck_loop_is_named_with_how_late_it_is(clock: FakeClock) -> None:
    pulse = Watchdog(clock)
    pulse.beat("data/etl status", within=60)
    pulse.beat("data/etl looks", within=300)
    clock.advance(65)
    assert pulse.overdue() == ["data/etl status is 5 s late"]


def test_a_loop_that_ended_promises_nothing(clock: FakeClock) -> None:
    pulse = Watchdog(clock)
    pulse.beat("data/etl status", within=60)
    pulse.stop("data/etl status")
    pulse.stop("never began")
    clock.advance(1000)
    assert pulse.overdue() == []


async def test_a_session_whose_writes_never_return_is_stuck_and_one_that_ended_is_not(
    clock: FakeClock,
) -> None:
    """No API does this to it, since every request ends in time: only a defect would."""
    pulse = Watchdog(clock)
    task = asyncio.create_task(session(pulse).run())
    await asyncio.sleep(0.05)
    assert pulse.overdue() == []
    clock.advance(61)
    assert pulse.overdue() == ["data/etl status is 1 s late"]
    clock.advance(240)
    assert "data/etl connections is 1 s late" in pulse.overdue()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert pulse.overdue() == []


def session(pulse: Watchdog) -> BindingSession:
    """One that waits for ever for whatever it asks of Kubernetes."""

    async def never(*_: object, **__: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    kube: Any = SimpleNamespace(get=never, request=never)
    reference = {"secretKeyRef": {"name": "prefect", "key": "key"}}
    server = {"url": "http://prefect/api", "apiKey": reference}
    spec = Spec.model_validate({"workPool": {"name": "etl"}, "server": server})
    binding = Binding("data", "etl", spec=lambda: spec, generation=lambda: 1, status={})
    around = OperatorContext(kube=kube, watchdog=pulse, reconcilers=1, heartbeat_seconds=30)
    return BindingSession(binding, around, cluster_id="cluster", announce=lambda _: None)
