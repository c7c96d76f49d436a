"""When a replica takes the Lease of a binding, and what makes it stop serving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from tests.support.clock import FakeClock
from tests.support.lease_api import LeaseApi
from tests.support.operator_context import operator_context
from workpool_operator.binding.conditions import ConditionState
from workpool_operator.binding.holder import UNTAKEN_SECONDS, BindingHolder
from workpool_operator.binding.lifecycle import End, Lifecycle
from workpool_operator.binding.live_binding import LiveBinding
from workpool_operator.errors import Cause, KubernetesForbidden, KubernetesUnavailable
from workpool_operator.kube.leases import LEASE_SECONDS
from workpool_operator.kube.permissions import Role
from workpool_operator.metrics import Metrics

NAME = ("data", "workpoolbinding-etl")
FOUND = {"metadata": {"namespace": "data", "name": "etl", "uid": "u", "resourceVersion": "1"}}
DELETING = {"deletionTimestamp": "2026-01-01T12:00:00Z", "resourceVersion": "2"}


class Serving:
    """Serves nothing; records why serving ended, and what else a Lifecycle was asked for."""

    def __init__(self) -> None:
        self.session = None
        self.serving = False
        self.ends: list[End | str] = []
        self.unserved: list[ConditionState] = []
        self.outages = 0

    def outage_ended(self) -> None:
        self.outages += 1

    async def serve(self, ending: asyncio.Future[End]) -> End:
        self.serving = True
        try:
            end = await asyncio.shield(ending)
            await self.hand_over()
            self.ends.append(end)
            return end
        except asyncio.CancelledError:
            self.ends.append("lost")
            raise
        finally:
            self.serving = False

    async def hand_over(self) -> None:
        """Nothing to hand over, but for a test."""

    async def release(self) -> None:
        self.ends.append("released")

    async def report_unserved(self, state: ConditionState) -> None:
        self.unserved.append(state)


class Replica:
    """A holder as replica `mine`, without a session."""

    def __init__(self, api: LeaseApi) -> None:
        self.api, self.clock, self.served = api, FakeClock(), Serving()
        self.metrics = Metrics(clock=self.clock)
        context = operator_context(api.client, clock=self.clock, observer=self.metrics)
        self.holder = BindingHolder(LiveBinding(FOUND), context, is_alone=lambda: True)
        self.holder.lifecycle = cast("Lifecycle", self.served)

    def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.holder.changed()

    def watch(self) -> None:
        """Let a watch show the Lease as it is."""
        self.holder.observe(self.api.read(*NAME))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
def api() -> LeaseApi:
    return LeaseApi()


@asynccontextmanager
async def running(api: LeaseApi, assigned_to: str = "mine") -> AsyncIterator[Replica]:
    replica = Replica(api)
    replica.holder.assign(assigned_to)
    task = asyncio.create_task(replica.holder.run())
    try:
        yield replica
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def held_by(api: LeaseApi, identity: str) -> None:
    metadata = {"namespace": NAME[0], "name": NAME[1], "uid": "lease", "resourceVersion": "1"}
    api.leases[NAME] = {"metadata": metadata, "spec": {"holderIdentity": identity}}


async def quiet() -> None:
    """Let the holder do what it would do now."""
    await asyncio.sleep(0.05)


async def test_a_binding_that_is_assigned_to_this_replica_is_served_at_once(api: LeaseApi) -> None:
    async with running(api) as replica:
        await replica.until(lambda: replica.served.serving)
        assert api.read(*NAME).holder == "mine"


async def test_a_binding_that_is_assigned_to_another_is_left_to_it(api: LeaseApi) -> None:
    async with running(api, "other") as replica:
        await quiet()
        assert not replica.served.serving
        assert NAME not in api.leases


async def test_a_lease_that_another_replica_does_not_take_is_taken_and_kept(api: LeaseApi) -> None:
    async with running(api, "other") as replica:
        await quiet()
        replica.let_pass(UNTAKEN_SECONDS)
        await replica.until(lambda: replica.served.serving)
        await quiet()
        assert replica.served.serving
        replica.holder.assign("third")
        await replica.until(lambda: replica.served.ends == [End.MOVED])


async def test_a_lease_of_a_silent_holder_is_taken_after_ten_seconds(
    api: LeaseApi, caplog: pytest.LogCaptureFixture
) -> None:
    held_by(api, "other")
    async with running(api) as replica:
        replica.watch()
        await quiet()
        assert not replica.served.serving
        replica.let_pass(LEASE_SECONDS)
        await replica.until(lambda: replica.served.serving)
    assert "took its Lease data/workpoolbinding-etl, which other let expire" in caplog.text


async def test_a_binding_that_moves_is_drained_and_its_lease_released(
    api: LeaseApi, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(api) as replica:
        await replica.until(lambda: replica.served.serving)
        replica.holder.assign("other")
        await replica.until(lambda: replica.served.ends == [End.MOVED])
        await replica.until(lambda: api.read(*NAME).holder == "")
        await quiet()
    assert "lost its Lease" not in caplog.text


async def test_a_lost_lease_ends_the_session_and_is_not_released(
    api: LeaseApi, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(api) as replica:
        await replica.until(lambda: replica.served.serving)
        api.edit(*NAME, holderIdentity="other")
        replica.watch()
        await replica.until(lambda: replica.served.ends == ["lost"])
        await quiet()
        assert api.read(*NAME).holder == "other"
    assert "lost its Lease data/workpoolbinding-etl: other holds it" in caplog.text
    lost = {"binding_namespace": "data", "binding": "etl"}
    assert replica.metrics.value("leases_lost_total", **lost) == 1


async def test_a_lease_that_may_no_longer_be_renewed_is_lost_when_it_expires(
    api: LeaseApi, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(api) as replica:
        await replica.until(lambda: replica.served.serving)
        api.error = KubernetesForbidden("leases is forbidden")
        replica.let_pass(60)
        await replica.until(lambda: replica.served.ends == ["lost"])
    why = "it has expired, because it may not be renewed; stops serving"
    assert f"lost its Lease data/workpoolbinding-etl: {why}" in caplog.text


async def test_an_outage_of_the_api_server_keeps_the_session_but_not_the_right_to_act(
    api: LeaseApi,
) -> None:
    async with running(api) as replica:
        await replica.until(lambda: replica.served.serving)
        api.error = KubernetesUnavailable("no answer")
        replica.let_pass(60)
        await quiet()
        assert replica.served.serving
        assert not replica.holder._lock.is_held()
        api.error = None
        replica.let_pass(60)
        await replica.until(lambda: replica.served.outages == 1)
        assert replica.holder._lock.is_held()
        assert replica.served.ends == []


async def test_a_process_that_stops_releases_the_lease(api: LeaseApi) -> None:
    async with running(api) as replica:
        await replica.until(lambda: replica.served.serving)
        replica.holder.stop()
        await replica.until(lambda: api.read(*NAME).holder == "")
        assert replica.served.ends == [End.STOPPED]


async def test_serving_goes_on_to_its_end_after_the_lease_was_released(
    api: LeaseApi, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = asyncio.Event()
    async with running(api) as replica:
        await replica.until(lambda: replica.served.serving)

        async def hand_over() -> None:
            await replica.holder._release()
            await flushed.wait()

        monkeypatch.setattr(replica.served, "hand_over", hand_over)
        replica.holder.assign("other")
        await replica.until(lambda: api.read(*NAME).holder == "")
        api.edit(*NAME, holderIdentity="other")
        replica.watch()
        await quiet()
        assert replica.served.serving
        flushed.set()
        await replica.until(lambda: replica.served.ends == [End.MOVED])
        await quiet()
        assert api.read(*NAME).holder == "other"
    assert "lost its Lease" not in caplog.text


async def test_a_deleted_binding_is_released_and_its_holder_ends(api: LeaseApi) -> None:
    replica = Replica(api)
    replica.holder.assign("mine")
    task = asyncio.create_task(replica.holder.run())
    await replica.until(lambda: replica.served.serving)
    replica.holder.live.update({"metadata": {**FOUND["metadata"], **DELETING}})
    replica.holder.changed()
    async with asyncio.timeout(5):
        await task
    assert replica.served.ends == [End.DELETED]


@pytest.mark.parametrize("policy", ["Drain", "Cancel"])
async def test_a_deleted_binding_is_served_while_it_waits_for_its_runs(
    policy: str, api: LeaseApi
) -> None:
    metadata = {**FOUND["metadata"], **DELETING}
    async with running(api) as replica:
        await replica.until(lambda: replica.served.serving)
        live = replica.holder.live
        live.update({"metadata": metadata, "spec": {"deletionPolicy": policy}})
        replica.holder.changed()
        await quiet()
        assert replica.served.serving
        live.update({"metadata": metadata, "spec": {"deletionPolicy": "Orphan"}})
        replica.holder.changed()
        await replica.until(lambda: replica.served.ends == [End.DELETED])


async def test_a_binding_in_a_namespace_that_is_deleted_is_released_without_a_lease(
    api: LeaseApi,
) -> None:
    cause = Cause("metadata.namespace", "it is being terminated", "NamespaceTerminating")
    api.error = KubernetesForbidden("forbidden", causes=[cause])
    replica = Replica(api)
    replica.holder.live.update({"metadata": {**FOUND["metadata"], **DELETING}})
    replica.holder.assign("mine")
    async with asyncio.timeout(5):
        await replica.holder.run()
    assert replica.served.ends == ["released"]


async def test_a_missing_right_is_reported_with_its_grant(
    api: LeaseApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def how_to_grant(_: object, namespace: str, role: Role) -> str:
        return f"grant {role.cluster_role} in {namespace}"

    monkeypatch.setattr("workpool_operator.kube.permissions.how_to_grant", how_to_grant)
    api.error = KubernetesForbidden("leases is forbidden")
    async with running(api) as replica:
        await replica.until(lambda: bool(replica.served.unserved))
        [state] = replica.served.unserved
    assert (state.status, state.reason) == ("False", "LeaseForbidden")
    assert "Grant it: grant workpool-operator-jobs in data" in state.message


async def test_a_replica_that_waits_for_another_holder_names_it_once(
    api: LeaseApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    held_by(api, "other")
    async with running(api) as replica:
        replica.watch()
        await quiet()
        api.edit(*NAME, renewTime="later")
        replica.watch()
        await quiet()
    lines = [line for line in caplog.messages if "which other holds" in line]
    assert lines == ["data/etl: waits for its Lease data/workpoolbinding-etl, which other holds"]
