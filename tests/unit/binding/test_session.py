"""When a session builds its status, to write it if it changed."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from tests.support.lease_api import LeaseApi
from tests.support.operator_context import operator_context
from workpool_operator.binding import session as sessions
from workpool_operator.binding.deletion import Deletion
from workpool_operator.binding.live_binding import LiveBinding
from workpool_operator.binding.session import BindingSession

FOUND = {
    "metadata": {"namespace": "data", "name": "etl", "uid": "u"},
    "spec": {"workPool": {"name": "etl"}, "server": {"url": "http://prefect/api"}},
}


class Looking(BindingSession):
    """A session that only notes when it builds its status."""

    def __init__(self) -> None:
        binding = LiveBinding(FOUND).binding(holds_lease=lambda: True)
        context = operator_context(LeaseApi().client)
        deletion = Deletion(binding.key, context.clock)
        super().__init__(binding, context, cluster_id="cluster", deletion=deletion)
        self.built_at: list[float] = []

    async def _write_status(self) -> float:
        self.built_at.append(time.monotonic())
        return 0.2

    async def looks(self, seconds: float, *, every: float | None = None) -> list[float]:
        """Return the seconds between two of them, if a change is reported that often."""
        task = asyncio.create_task(self._keep_status())
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(every or seconds)
            self.spec_changed()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        at = self.built_at
        return [after - before for before, after in pairwise(at)]


async def test_what_is_reported_is_looked_up_at_once_but_not_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "QUIET_STATUS_SECONDS", 60.0)
    pauses = await Looking().looks(0.9, every=0.02)
    assert len(pauses) >= 2
    assert all(0.19 < pause < 0.5 for pause in pauses), pauses


async def test_a_poll_and_the_job_that_follows_it_are_reported_together_after_both() -> None:
    session = Looking()
    task = asyncio.create_task(session._keep_status())
    await asyncio.sleep(0.3)
    session.spec_changed()
    await asyncio.sleep(0.15)
    assert len(session.built_at) == 1, "the run that a poll found is being claimed"
    await asyncio.sleep(0.25)
    assert len(session.built_at) == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_a_report_the_status_is_built_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "QUIET_STATUS_SECONDS", 0.4)
    pauses = await Looking().looks(1.0)
    assert pauses
    assert all(pause > 0.39 for pause in pauses), pauses
