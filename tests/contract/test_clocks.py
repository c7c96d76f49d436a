"""A machine whose clock is wrong by half a minute reads the servers' timestamps as they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from kubernetes_asyncio.client import Configuration

from tests.contract.conftest import make_run
from tests.support.fault_proxy import FaultProxy
from tests.support.prefect import Object, PrefectApi
from tests.support.wrong_clock import WrongClock
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi as Client
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

WRONG = pytest.mark.parametrize("seconds", [-30, 30])


@WRONG
async def test_a_poll_finds_what_is_due_by_the_servers_clock(
    seconds: int, api: PrefectApi, suspended_pool: Object, prefect_proxy: FaultProxy
) -> None:
    due = await make_run(api, suspended_pool)
    later = datetime.now(UTC) + timedelta(seconds=15)
    await make_run(api, suspended_pool, due=later)
    server = PrefectEndpoint(prefect_proxy.url)
    async with Client(server, pool=suspended_pool["name"], clock=WrongClock(seconds)) as client:
        await client.work_pool()
        assert abs(client.clock.now() - datetime.now(UTC)) < timedelta(seconds=2)
        before = client.clock.now() + timedelta(seconds=5)
        assert [run.id for run in await client.poll(queues=(), before=before)] == [UUID(due["id"])]


@WRONG
async def test_the_age_of_an_object_is_that_of_the_api_servers_clock(
    seconds: int, namespace: str, kube_proxy: FaultProxy
) -> None:
    async with KubernetesClient(
        Configuration(host=kube_proxy.url), clock=WrongClock(seconds)
    ) as kube:
        await kube.namespace_uid(namespace)
        assert abs(kube.clock.now() - datetime.now(UTC)) < timedelta(seconds=2)
