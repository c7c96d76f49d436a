"""What the executor reports about an action, besides carrying it out."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.controller import OfflineController
from tests.support.snapshots import RUN_ID, id_of, record, run
from workpool_operator.jobs.diagnosis import WaitReason
from workpool_operator.runs import actions
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.state_proposals import StateProposals

RUN = run("SCHEDULED", deployment_id=id_of("deployment"))


class Reports(Listener):
    """What was reported."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def run_due(self) -> None:
        self.made.append("due")

    def slot_returned(self, deployment: UUID) -> None:
        self.made.append(deployment)


class Accepted:
    """Stands for StateProposals; the server accepts everything."""

    async def postpone(self, *_: object, **__: object) -> None: ...

    async def reschedule(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("action", "reported"),
    [
        (actions.Postpone(WaitReason("InfrastructureRetry", ""), 10.0), [id_of("deployment")]),
        (actions.Reschedule(RUN), ["due"]),
    ],
    ids=["a run that is put off returns its slot", "a run that is scheduled again is due"],
)
async def test_no_event_tells_of_what_the_operator_itself_schedules(
    action: actions.Action, reported: list[Any]
) -> None:
    reports = Reports()
    controller = OfflineController(listener=reports)
    controller.store.put(RUN_ID, record(RUN))
    executor = controller._executor
    executor._proposals = cast("StateProposals", Accepted())
    assert await executor.execute(RUN_ID, action)
    assert reports.made == reported
