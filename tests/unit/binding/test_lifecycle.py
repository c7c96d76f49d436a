"""When a replica that stops serving a binding releases its Lease."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tests.support.lease_api import LeaseApi
from tests.support.operator_context import operator_context
from workpool_operator.api.v1alpha1 import FINALIZER
from workpool_operator.binding.lifecycle import End, Lifecycle
from workpool_operator.binding.live_binding import LiveBinding
from workpool_operator.binding.session import BindingSession

FOUND = {
    "metadata": {"namespace": "data", "name": "etl", "uid": "u", "finalizers": [FINALIZER]},
    "spec": {"workPool": {"name": "etl"}, "server": {"url": "http://prefect/api"}},
}


class Session:
    """Does nothing; records what it was asked for."""

    def __init__(self, steps: list[str]) -> None:
        self._steps = steps
        self.status: dict[str, Any] = {}

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def drain(self) -> None:
        self._steps.append("drain")

    async def flush(self) -> None:
        self._steps.append("flush the logs of runs")

    async def report_stopped(self) -> None:
        self._steps.append("write the status")


async def steps_of(monkeypatch: pytest.MonkeyPatch, end: End, *, alone: bool) -> list[str]:
    """Return what is done when serving ends."""
    api, steps = LeaseApi(), list[str]()

    async def make_session(*_: object) -> BindingSession:
        return cast("BindingSession", Session(steps))

    async def release() -> None:
        steps.append("release the Lease")

    monkeypatch.setattr(Lifecycle, "_make_session", make_session)
    context = operator_context(api.client)
    lifecycle = Lifecycle(
        LiveBinding(FOUND),
        context,
        holds_lease=lambda: True,
        release_lease=release,
        missing=lambda: None,
        is_alone=lambda: alone,
    )
    ending = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(lifecycle.serve(ending))
    await asyncio.sleep(0.01)
    ending.set_result(end)
    async with asyncio.timeout(5):
        assert await task is end
    return steps


@pytest.mark.parametrize("end", [End.STOPPED, End.MOVED])
async def test_another_replica_can_take_over_before_the_logs_of_runs_are_sent(
    monkeypatch: pytest.MonkeyPatch, end: End
) -> None:
    steps = await steps_of(monkeypatch, end, alone=False)
    assert steps == ["drain", "release the Lease", "flush the logs of runs"]


async def test_an_only_replica_writes_the_last_status_before_its_holder_releases_the_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = await steps_of(monkeypatch, End.STOPPED, alone=True)
    assert steps == ["drain", "flush the logs of runs", "write the status"]
