"""The checks of one server take turns, and waiting for a turn does not look like a stuck loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.operator_context import operator_context
from workpool_operator.binding import context
from workpool_operator.binding.context import CONCURRENT_CHECKS, OperatorContext

URL = "http://hung/api"


@pytest.fixture
def shared() -> OperatorContext:
    absent: Any = None
    return operator_context(absent)


async def test_a_check_that_waits_for_its_turn_reports_that_it_is_alive(
    shared: OperatorContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "WAITING_SECONDS", 0.01)
    answered, reported = asyncio.Event(), asyncio.Event()
    alive = 0

    def waiting() -> None:
        nonlocal alive
        alive += 1
        if alive == CONCURRENT_CHECKS + 6:
            reported.set()

    async def check() -> None:
        async with shared.check_slot(URL, waiting=waiting):
            await answered.wait()

    holding = [asyncio.create_task(check()) for _ in range(CONCURRENT_CHECKS)]
    await asyncio.sleep(0)
    late, given_up = asyncio.create_task(check()), asyncio.create_task(check())
    async with asyncio.timeout(5):
        await reported.wait()
        async with shared.check_slot("http://other/api", waiting=waiting):
            given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        answered.set()
        await asyncio.gather(*holding, late)
        for _ in range(CONCURRENT_CHECKS):
            await shared.check_slots[URL].acquire()
    assert shared.check_slots[URL].locked(), "each turn was given back once"
