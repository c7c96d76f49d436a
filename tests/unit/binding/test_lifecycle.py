"""When a replica that stops serving a binding releases its Lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from tests.support.clock import FakeClock
from tests.support.lease_api import LeaseApi
from tests.support.operator_context import operator_context
from workpool_operator.api.v1alpha1 import FINALIZER
from workpool_operator.binding.context import OperatorContext
from workpool_operator.binding.lifecycle import End, Lifecycle
from workpool_operator.binding.live_binding import LiveBinding
from workpool_operator.binding.session import BindingSession
from workpool_operator.errors import KubernetesForbidden
from workpool_operator.kube.client import KubernetesClient

FOUND: dict[str, Any] = {
    "metadata": {"namespace": "data", "name": "etl", "uid": "u", "finalizers": [FINALIZER]},
    "spec": {"workPool": {"name": "etl"}, "server": {"url": "http://prefect/api"}},
}

DELETED = {
    "metadata": {
        **FOUND["metadata"],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "1",
    },
    "spec": {**FOUND["spec"], "deletionPolicy": "Drain"},
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


def lifecycle_of(
    found: dict[str, Any],
    context: OperatorContext,
    *,
    release: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0),
    alone: bool = True,
) -> Lifecycle:
    return Lifecycle(
        LiveBinding(found),
        context,
        holds_lease=lambda: True,
        release_lease=release,
        missing=lambda: None,
        is_alone=lambda: alone,
    )


async def steps_of(monkeypatch: pytest.MonkeyPatch, end: End, *, alone: bool) -> list[str]:
    """Return what is done when serving ends."""
    api, steps = LeaseApi(), list[str]()

    async def make_session(*_: object) -> BindingSession:
        return cast("BindingSession", Session(steps))

    async def release() -> None:
        steps.append("release the Lease")

    monkeypatch.setattr(Lifecycle, "_make_session", make_session)
    lifecycle = lifecycle_of(FOUND, operator_context(api.client), release=release, alone=alone)
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


class WithoutNamespace:
    """An API server that does not let the operator read the binding's namespace, which takes 100 s
    each time."""

    namespace = "operator"

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.statuses: list[dict[str, Any]] = []
        self.finalizers = [FINALIZER]

    async def namespace_uid(self, _: str) -> str:
        self._clock.advance(100)
        raise KubernetesForbidden("may not get namespaces")

    async def get(self, *_: object) -> dict[str, Any]:
        return DELETED

    async def request(self, *_: object, body: dict[str, Any], **__: object) -> bytes:
        self.statuses.append(body["status"])
        return b"{}"

    async def create(self, *_: object) -> None: ...

    async def patch(self, *args: Any) -> dict[str, Any]:
        self.finalizers = args[-1]["metadata"]["finalizers"]
        return DELETED


async def test_a_deletion_does_not_wait_for_runs_that_no_session_can_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workpool_operator.binding.lifecycle.RESTART_SECONDS", (0.001, 0.001))
    clock = FakeClock()
    api = WithoutNamespace(clock)
    context = operator_context(cast("KubernetesClient", api), clock=clock)
    lifecycle = lifecycle_of(DELETED, context)
    async with asyncio.timeout(5):
        assert await lifecycle.serve(asyncio.get_running_loop().create_future()) is End.DELETED
    assert api.finalizers is None
    said = [status["conditions"][0] for status in api.statuses]
    assert [ready["reason"] for ready in said] == ["Draining", "DeletionTimedOut"]
    assert "may not get namespaces; after 300 s it waits no longer" in said[0]["message"]
    assert '{"spec":{"deletionPolicy":"Orphan"}}' in said[0]["message"]
