"""When the lines of runs' logs are sent."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tests.support.simulated_time import BACKEND
from tests.support.snapshots import RUN_ID
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.run_logs import BATCH_SIZE, INTERVAL_SECONDS, RunLogSender


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return BACKEND


class Server:
    """Keeps the size of each batch; it answers after a second."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    async def write_logs(self, batch: list[dict[str, Any]]) -> None:
        await asyncio.sleep(1)
        self.batches.append(len(batch))


async def test_lines_are_sent_within_a_second_and_all_of_them_in_batches() -> None:
    server = Server()
    sender = RunLogSender(cast("PrefectApi", server))
    task = asyncio.create_task(sender.run())
    for _ in range(2):
        await asyncio.sleep(60)
        for _ in range(BATCH_SIZE + 1):
            sender.write(RUN_ID, "text")
        await asyncio.sleep(INTERVAL_SECONDS + 2.1)
    task.cancel()
    assert server.batches == [BATCH_SIZE, 1] * 2


async def test_a_flush_ends_once_all_lines_are_sent_also_those_that_were_being_sent() -> None:
    server = Server()
    sender = RunLogSender(cast("PrefectApi", server))
    task = asyncio.create_task(sender.run())
    for _ in range(2 * BATCH_SIZE + 1):
        sender.write(RUN_ID, "text")
    await asyncio.sleep(INTERVAL_SECONDS + 0.5)
    await sender.flush()
    task.cancel()
    assert server.batches == [BATCH_SIZE, BATCH_SIZE, 1]
