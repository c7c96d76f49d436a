"""What the operator decided becomes an Event, without delaying it; a flood makes few."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

from tests.support.clock import FakeClock
from workpool_operator.errors import KubernetesForbidden
from workpool_operator.kube import events
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.event_recorder import BURST, REFILL_SECONDS, EventRecorder

JOB = {"kind": "Job", "namespace": "data", "name": "fox-1", "uid": "uid-1"}


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


async def _posted(recorder: EventRecorder) -> None:
    task = asyncio.create_task(recorder.run())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()


async def test_an_event_that_is_refused_ends_nothing() -> None:
    kube, clock = Posted(), FakeClock()
    recorder = EventRecorder(cast("KubernetesClient", kube), clock=clock)
    for _ in range(2):
        recorder.event(JOB, "Warning", "RunCrashed", "exit code 7")
    await _posted(recorder)
    [event] = kube.events
    assert event["involvedObject"]["uid"] == "uid-1"
    assert (event["reason"], event["type"]) == ("RunCrashed", "Warning")
    assert event["message"] == "exit code 7"


def test_a_message_has_at_most_1024_bytes_as_the_api_server_counts_them() -> None:
    text, now = "é" * 2000, datetime.now(UTC)
    made = events.event(JOB, type_="Normal", reason="RunEnded", message="x" + text, now=now)
    assert made["message"] == "x" + "é" * 511


async def test_many_events_at_once_are_dropped_but_for_a_few() -> None:
    kube, clock = Posted(), FakeClock()
    recorder = EventRecorder(cast("KubernetesClient", kube), clock=clock)
    for _ in range(1000):
        recorder.event(JOB, "Normal", "RunEnded", "")
    await _posted(recorder)
    assert kube.attempts == BURST
    clock.advance(REFILL_SECONDS * 2)
    for _ in range(1000):
        recorder.event(JOB, "Normal", "RunEnded", "")
    await _posted(recorder)
    assert kube.attempts == BURST + 2


async def test_of_events_that_wait_for_too_long_the_oldest_are_dropped() -> None:
    kube, clock = Posted(), FakeClock()
    recorder = EventRecorder(cast("KubernetesClient", kube), clock=clock)
    for number in range(BURST + 3):
        recorder.event(JOB, "Normal", "RunEnded", str(number))
        clock.advance(REFILL_SECONDS)
    await _posted(recorder)
    assert kube.attempts == BURST
    assert [event["message"] for event in kube.events] == [str(n) for n in range(4, BURST + 3)]
