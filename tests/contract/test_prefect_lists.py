"""A list that the Prefect server answers page by page is read to its end."""

from __future__ import annotations

from uuid import UUID

import pytest

from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api import client, lookup
from workpool_operator.prefect_api.endpoint import PrefectEndpoint


@pytest.fixture
async def prefect(prefect_server, pool, monkeypatch):
    """A client whose pages have 20 objects, so that 21 are more than a page."""
    monkeypatch.setattr(client, "PAGE_SIZE", 20)
    async with client.PrefectApi(PrefectEndpoint(prefect_server.url), pool=pool) as prefect:
        yield prefect


async def test_every_work_queue_of_a_pool_is_known(api, pool, prefect) -> None:
    names = {f"queue-{number}" for number in range(21)}
    for name in names:
        await api.request("POST", f"/work_pools/{pool}/queues", {"name": name})
    assert {queue.name for queue in await prefect.work_queues()} == {"default", *names}


async def test_deployments_are_found_and_suggested_beyond_the_first_page(
    api, pool, prefect
) -> None:
    names = [f"{pool}-{number}-nightly" for number in range(21)]
    made = [await api.create_deployment(flow="hello", name=name, pool=pool) for name in names]
    ids = {UUID(each["id"]) for each in made}
    assert set(await prefect.deployments(ids)) == ids
    assert len(await prefect.filter("deployments", most=21)) == 21
    for name in (names[0], names[-1]):
        with pytest.raises(OperatorError, match=f"Did you mean 'hello/{name}'"):
            await lookup.deployment(prefect, f"hello/{name.replace('nightly', 'nihgtly')}")
