"""A refused claim whose delay only the operator knows becomes an Event; a flood makes few."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

from tests.support.clock import NOON, FakeClock
from tests.support.snapshots import RUN_ID, run
from workpool_operator.binding.claim_events import BURST, REFILL_SECONDS, ClaimEvents
from workpool_operator.binding.context import Binding
from workpool_operator.errors import KubernetesForbidden
from workpool_operator.kube.client import KubernetesClient

UNTIL = NOON + timedelta(seconds=30)


class Posted:
    """Keeps the Events that are posted; refuses the first one."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.attempts = 0

    async def create(self, _: Any, namespace: str, event: dict[str, Any]) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise KubernetesForbidden("no right to create Events")
        assert namespace == "data"
        self.events.append(event)


def _binding() -> Binding:
    return Binding(
        namespace="data",
        name="etl",
        spec=lambda: cast("Any", None),
        generation=lambda: 1,
        status={},
        uid="uid-1",
    )


async def _posted(events: ClaimEvents) -> None:
    task = asyncio.create_task(events.run())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()


async def test_an_event_names_the_run_the_time_and_the_reason() -> None:
    kube, clock = Posted(), FakeClock()
    events = ClaimEvents(cast("KubernetesClient", kube), _binding(), clock=clock)
    for _ in range(2):
        events.claim_refused(run("SCHEDULED"), until=UNTIL, why="HTTP 403 no")
    await _posted(events)
    [event] = kube.events  # the refusal of the first one ends nothing
    text = f"Flow run 'brave-lynx' ({RUN_ID}) is claimed not before 2026-01-01T12:00:30Z: HTTP 403 "
    assert event["message"] == f"{text}no"
    assert (event["reason"], event["type"]) == ("ClaimRefused", "Warning")
    assert event["involvedObject"]["uid"] == "uid-1"


async def test_many_refused_claims_make_few_events() -> None:
    kube, clock = Posted(), FakeClock()
    events = ClaimEvents(cast("KubernetesClient", kube), _binding(), clock=clock)
    for _ in range(1000):
        events.claim_refused(run("SCHEDULED"), until=UNTIL, why="no")
    await _posted(events)
    assert kube.attempts == BURST
    clock.advance(REFILL_SECONDS * 2)
    for _ in range(1000):
        events.claim_refused(run("SCHEDULED"), until=UNTIL, why="no")
    await _posted(events)
    assert kube.attempts == BURST + 2
