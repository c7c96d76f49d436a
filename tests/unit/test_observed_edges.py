"""The clients and the watches report what metrics count: each request once, whatever its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from kubernetes_asyncio.client import Configuration

from testbed.postgres import free_port
from tests.unit.kube.test_reflector import Listed
from workpool_operator.errors import OperatorError
from workpool_operator.http_port import open_port
from workpool_operator.kube import reflector as reflectors
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.cluster import Cache
from workpool_operator.kube.models import Job
from workpool_operator.kube.reflector import Reflector
from workpool_operator.metrics import Metrics
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint


@asynccontextmanager
async def server() -> AsyncIterator[int]:
    """Answer every request with 404, but /api/admin/version."""

    async def version(_: web.Request) -> web.Response:
        return web.json_response("3.8.8")

    app = web.Application()
    app.add_routes([web.get("/api/admin/version", version)])
    async with open_port(app, 0, path="/", fix="") as port:
        yield port


def requests(metrics: Metrics, target: str, verb: str, code: str) -> float | None:
    return metrics.value("api_requests_total", target=target, verb=verb, code=code)


async def test_each_request_to_prefect_is_counted_by_its_answer() -> None:
    metrics = Metrics()
    async with server() as port, prefect(metrics, port) as api:
        assert await api.version() == "3.8.8"
        with pytest.raises(OperatorError):
            await api.heartbeat("w", every_seconds=30)
    async with prefect(metrics, free_port("127.0.0.1")) as api:
        with pytest.raises(OperatorError):
            await api.version()
    assert requests(metrics, "prefect", "GET", "200") == 1
    assert requests(metrics, "prefect", "GET", "none") == 1
    assert requests(metrics, "prefect", "POST", "404") == 1
    count = metrics.value("api_request_duration_seconds_count", target="prefect", verb="GET")
    assert count is not None
    assert count >= 2


def prefect(metrics: Metrics, port: int) -> PrefectApi:
    endpoint = PrefectEndpoint(f"http://127.0.0.1:{port}/api")
    return PrefectApi(endpoint, pool="etl", requested=metrics.requests_to("prefect"))


async def test_each_request_to_kubernetes_is_counted_by_its_answer() -> None:
    metrics = Metrics()
    async with server() as port, kubernetes(metrics, port) as kube:
        with pytest.raises(OperatorError):
            await kube.get(JOBS, "data", "a")
        with pytest.raises(OperatorError):
            async with kube.watch("/apis/batch/v1/jobs", {"resourceVersion": "1"}):
                pass
    async with kubernetes(metrics, free_port("127.0.0.1")) as kube:
        with pytest.raises(OperatorError):
            await kube.get(JOBS, "data", "a")
    assert requests(metrics, "kubernetes", "GET", "404") == 1
    assert requests(metrics, "kubernetes", "WATCH", "404") == 1
    assert requests(metrics, "kubernetes", "GET", "none") == 1


def kubernetes(metrics: Metrics, port: int) -> KubernetesClient:
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{port}"
    client = KubernetesClient(configuration)
    client.requested = metrics.requests_to("kubernetes")
    return client


class Watches(Listed):
    """Each watch ends as the next of `ends` says."""

    def __init__(self, *ends: Callable[[], AsyncIterator[bytes]]) -> None:
        super().__init__()
        self._ends = list(ends)

    @asynccontextmanager
    async def watch(self, path: str, query: Any) -> AsyncIterator[Any]:
        if not self._ends:
            self.watched.set()
            await asyncio.Event().wait()
        yield self._ends.pop(0)()


async def over() -> AsyncIterator[bytes]:
    """The API server ends it."""
    return
    yield b""


async def expired() -> AsyncIterator[bytes]:
    status = {"kind": "Status", "message": "too old resource version", "code": 410}
    yield json.dumps({"type": "ERROR", "object": status}).encode()


async def silent() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_watches_that_are_opened_again_are_counted_by_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reflectors, "SILENCE_SECONDS", 0.01)
    metrics, server = Metrics(), Watches(over, silent, expired)
    reflector: Reflector[Job] = Reflector(
        cast("KubernetesClient", server),
        JOBS,
        namespace="data",
        selector="",
        cache=Cache(lambda _: None),
        followed=lambda _: None,
        restarted=lambda cause: metrics.watch_restarted("jobs", cause),
    )
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(5):
        await server.watched.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    found = {
        cause: metrics.value("watch_restarts_total", resource="jobs", cause=cause)
        for cause in ("timeout", "silent", "expired", "error")
    }
    assert found == {"timeout": 1, "silent": 1, "expired": 1, "error": None}
