"""Blocks, `$ref` and variables of a real server, rendered by both."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from prefect.client.orchestration import PrefectClient

from testbed.environments import PEER
from tests.corpus import blocks
from tests.corpus.blocks import DOCUMENT, SETTINGS, Names
from tests.support.endpoint import Endpoint
from tests.support.prefect import Object, PrefectApi
from tests.support.stock import both
from workpool_operator.parity.stock import StockWorker, stock_worker

SECRET = "a password that a run needs"


pytestmark = pytest.mark.xdist_group("stock")


@pytest.fixture(scope="module")
def stock(prefect_server: Endpoint) -> Iterator[StockWorker]:
    with stock_worker(PEER.python, environment={"PREFECT_API_URL": prefect_server.url}) as worker:
        yield worker


@pytest.fixture
async def client(prefect_server: Endpoint) -> AsyncIterator[PrefectClient]:
    async with PrefectClient(prefect_server.url) as client:
        yield client


@pytest.fixture
async def names(api: PrefectApi) -> AsyncIterator[Names]:
    suffix = uuid.uuid4().hex[:8]
    settings = await _block(api, "wpo-settings", f"settings-{suffix}", SETTINGS)
    secret = await _block(api, "secret", f"secret-{suffix}", {"value": SECRET})
    word, document = f"word_{suffix}", f"document_{suffix}"
    await api.request("POST", "/variables/", {"name": word, "value": "etl"})
    await api.request("POST", "/variables/", {"name": document, "value": DOCUMENT})
    yield Names(secret["name"], settings["name"], settings["id"], word, document)
    for block in (settings, secret):
        await api.request("DELETE", f"/block_documents/{block['id']}")
    for name in (word, document):
        await api.request("DELETE", f"/variables/name/{name}")


async def test_blocks_and_variables_give_the_stock_workers_job(
    names: Names, stock: StockWorker, client: PrefectClient
) -> None:
    undocumented = [
        f"{case.name}: {line}"
        for case in blocks.cases(names)
        for line in (await both(case, stock=stock, client=client)).undocumented()
    ]
    assert undocumented == []


async def test_both_renderers_resolve_blocks_and_variables(
    names: Names, stock: StockWorker, client: PrefectClient
) -> None:
    """Two placeholders that are left unresolved would be equal, too."""
    found = {
        case.name: (await both(case, stock=stock, client=client)).ours
        for case in blocks.cases(names)
    }
    assert SECRET in str(found["a secret in the run's env"].manifest)
    assert "warehouse" in str(found["a field"].manifest)
    assert "'disk': 'ssd'" in str(found["a variable that is a mapping"].manifest)
    refused = {name for name, rendered in found.items() if rendered.error}
    assert refused == {
        "no such block",
        "no such type",
        "no such field",
        "no block's name",
        "a mapping of a block in a text",
        "no such document",
    }


async def _block(api: PrefectApi, kind: str, name: str, data: Object) -> Object:
    """Create a block document of the type, and the type if the server does not have it."""
    body = {"name": name, "data": data, "block_type_id": await _type(api, kind)}
    return await api.one(
        "POST", "/block_documents/", body | {"block_schema_id": await _schema(api, body)}
    )


async def _type(api: PrefectApi, kind: str) -> str:
    chosen = {"block_types": {"name": {"like_": ""}, "slug": {"any_": [kind]}}}
    if found := await api.many("POST", "/block_types/filter", chosen):
        return str(found[0]["id"])
    made = await api.one("POST", "/block_types/", {"name": kind, "slug": kind})
    return str(made["id"])


async def _schema(api: PrefectApi, block: Object) -> str:
    chosen = {"block_schemas": {"block_type_id": {"any_": [block["block_type_id"]]}}}
    if found := await api.many("POST", "/block_schemas/filter", chosen):
        return str(found[0]["id"])
    fields = {
        "type": "object",
        "title": "Settings",
        "properties": {},
        "block_schema_references": {},
    }
    body = {"block_type_id": block["block_type_id"], "fields": fields, "capabilities": []}
    return str((await api.one("POST", "/block_schemas/", body))["id"])
