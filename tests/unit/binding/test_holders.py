"""Changes of bindings and Leases reach the holder of the binding that they are about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tests.support.lease_api import LeaseApi
from tests.support.operator_context import operator_context
from workpool_operator.api.v1alpha1 import FINALIZER
from workpool_operator.binding.holders import BindingHolders
from workpool_operator.binding.replicas import Replicas

POOL = "11111111-1111-4111-8111-111111111111"


class Api(LeaseApi):
    """Also lists the bindings with these UIDs; a binding itself is never found."""

    def __init__(self) -> None:
        super().__init__()
        self.uids: list[str] = []

    async def request(self, method: str, path: str, **_: object) -> bytes:
        items = [{"metadata": {"uid": uid}} for uid in self.uids]
        return json.dumps({"items": items}).encode()


class Elsewhere:
    """Two replicas, of which the other one serves every binding."""

    def __init__(self) -> None:
        self.identities = {"other"}

    async def known(self) -> None:
        return

    def live(self) -> set[str]:
        return self.identities

    def seconds_to_expiry(self) -> None:
        return


def found(name: str, uid: str, **more: Any) -> dict[str, Any]:
    metadata = {"namespace": "data", "name": name, "uid": uid, "resourceVersion": "1"}
    return {"metadata": metadata | more.pop("metadata", {}), "spec": {}, **more}


@pytest.fixture
def api() -> Api:
    return Api()


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[BindingHolders]:
    context = operator_context(api.client)
    replicas = cast("Replicas", Elsewhere())
    holders = BindingHolders(context, replicas, changed=asyncio.Event())
    task = asyncio.create_task(holders.run())
    await asyncio.sleep(0)
    yield holders
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def uids(holders: BindingHolders) -> list[str]:
    return sorted(holder.live.uid for holder in holders)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_deletion_that_the_watch_does_not_report_is_found_by_a_list(api: Api) -> None:
    async with running(api) as holders:
        holders.binding_changed(found("kept", "1"))
        holders.binding_changed(found("deleted", "2"))
        api.uids = ["1"]
        await holders.relist("data", selector="")
        await until(lambda: uids(holders) == ["1"])


async def test_a_binding_that_is_created_again_gets_another_holder(api: Api) -> None:
    async with running(api) as holders:
        holders.binding_changed(found("etl", "1"))
        holders.binding_changed(found("etl", "2"))
        await until(lambda: uids(holders) == ["2"])


async def test_a_late_report_of_an_earlier_deletion_does_not_end_the_holder(api: Api) -> None:
    async with running(api) as holders:
        holders.binding_changed(found("etl", "2"))
        holders.binding_gone(found("etl", "1"))
        await asyncio.sleep(0.05)
        assert uids(holders) == ["2"]


async def test_a_deleted_binding_that_waits_for_others_only_gets_no_holder(api: Api) -> None:
    deleting = {"deletionTimestamp": "2026-01-01T12:00:00Z"}
    async with running(api) as holders:
        holders.binding_changed(found("released", "1", metadata=deleting))
        waiting = deleting | {"finalizers": [FINALIZER]}
        holders.binding_changed(found("waiting", "2", metadata=waiting))
        assert uids(holders) == ["2"]


async def test_what_a_binding_of_another_replica_takes_from_its_pool_is_known(api: Api) -> None:
    status = {"workerName": "etl.data@cluster", "workPool": {"id": POOL}}
    async with running(api) as holders:
        holders.binding_changed(found("etl", "1", status=status))
        (consumer,) = holders._context.consumers
        assert (consumer.binding, consumer.worker) == ("data/etl", "etl.data@cluster")
        holders.binding_gone(found("etl", "1"))
        await until(lambda: not list(holders._context.consumers))


async def test_every_holder_ends_when_the_process_stops(api: Api) -> None:
    async with running(api) as holders:
        holders.binding_changed(found("etl", "1"))
        async with asyncio.timeout(5):
            await holders.stop()
        assert uids(holders) == []
