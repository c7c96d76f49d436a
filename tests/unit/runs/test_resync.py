"""What a resync reads while runs change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

from tests.support.controller import OfflineController
from tests.support.snapshots import run
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.resync import LIMIT

RUNS = LIMIT + 50


class Server:
    """Has running flow runs, of which one of the first page ends after each list."""

    def __init__(self) -> None:
        self.ids = [UUID(int=number) for number in range(RUNS)]

    async def filter_runs(self, body: dict[str, Any]) -> list[Run]:
        if body["flow_runs"]["state"]["type"]["any_"] == ["SCHEDULED"]:
            return []
        page = self.ids[body["offset"] : body["offset"] + body["limit"]]
        del self.ids[0]
        one = run("RUNNING")
        return [replace(one, id=each) for each in page]


async def test_a_run_that_ends_between_two_pages_hides_no_other() -> None:
    controller = OfflineController(prefect=cast("PrefectApi", Server()))
    listing = asyncio.create_task(controller._resync.run())
    await controller.ready()
    listing.cancel()
    assert len(controller.store) == RUNS
