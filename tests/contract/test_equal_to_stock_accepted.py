"""Both sides' Jobs of the corpus, shown to a real API server: what it takes of the stock worker, it
takes of ours. Nothing is created (`dryRun`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import PrefectClient

from testbed.environments import PEER
from tests.corpus import environments, metadata, names, placeholders, published, stock_variables
from tests.corpus.case import Object
from tests.support.kube import Kube
from tests.support.stock import both
from workpool_operator.parity.stock import StockWorker, stock_worker

CASES = [
    *stock_variables.CASES,
    *environments.CASES,
    *published.CASES,
    *metadata.CASES,
    *placeholders.CASES,
    *names.CASES,
]


@pytest.fixture
def stock() -> Iterator[StockWorker]:
    with stock_worker(PEER.python) as worker:
        yield worker


async def test_what_the_api_server_takes_of_the_stock_worker_it_takes_of_ours(
    stock: StockWorker, kube: Kube, namespace: str
) -> None:
    worse, better = [], []
    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:
        for case in CASES:
            sides = await both(case, stock=stock, client=nowhere)
            if sides.stock.manifest is None or sides.ours.manifest is None:
                continue
            theirs = await refusal(kube, namespace, sides.stock.manifest)
            ours = await refusal(kube, namespace, sides.ours.manifest)
            if ours and not theirs:
                worse.append(f"{case.name}: {ours}")
            if theirs and not ours:
                better.append(case.name)
    assert worse == []
    assert len(better) > 10


async def refusal(kube: Kube, namespace: str, manifest: Object) -> str:
    """What the API server says against the Job, "" if it takes it."""
    placed = manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    answer = await kube.http.post(path, params={"dryRun": "All"}, json=placed)
    return str(answer.json()["message"]) if answer.is_error else ""
