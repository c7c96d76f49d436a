"""The cache equals the cluster again after any gap, on the real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes_asyncio.client import Configuration

from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.polling import poll
from workpool_operator.kube import reflector as reflectors
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.cluster import Cache
from workpool_operator.kube.models import Job
from workpool_operator.kube.reflector import Reflector

LABEL = "tests/reflector"


def manifest(name: str) -> dict[str, object]:
    container = {"name": "c", "image": "none"}
    pod = {"containers": [container], "restartPolicy": "Never"}
    return {
        "metadata": {"name": name, "labels": {LABEL: "yes"}},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


@asynccontextmanager
async def following(
    proxy: FaultProxy, namespace: str, *, except_name: str = ""
) -> AsyncIterator[Cache[Job]]:
    """Follow the namespace's Jobs from the time at which the watch is open."""
    cache: Cache[Job] = Cache(lambda _: None)
    async with KubernetesClient(Configuration(host=proxy.url)) as client:
        reflector = Reflector(
            client,
            JOBS,
            namespace=namespace,
            selector=f"{LABEL}=yes",
            cache=cache,
            followed=lambda _: None,
            except_name=except_name,
        )
        task = asyncio.create_task(reflector.run())
        await poll(lambda: open_watches(proxy), until=bool)
        yield cache
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def jobs(kube_proxy: FaultProxy, namespace: str) -> AsyncIterator[Cache[Job]]:
    """A cache that a reflector follows the namespace's Jobs with."""
    async with following(kube_proxy, namespace) as cache:
        yield cache


async def open_watches(proxy: FaultProxy) -> int:
    calls = proxy.calls(r"/jobs$", method="GET")
    return len([call for call in calls if "watch=true" in call.query and call.status == 200])


async def holds(jobs: Cache[Job], *names: str) -> None:
    async def held() -> set[str]:
        return {job.name for job in jobs}

    await poll(held, until=lambda found: found == set(names))


def requests(proxy: FaultProxy, *, watches: bool) -> int:
    return sum(
        ("watch=true" in call.query) == watches for call in proxy.calls(r"/jobs$", method="GET")
    )


async def test_created_and_deleted_objects_are_followed(
    jobs: Cache[Job], kube: Kube, namespace: str
) -> None:
    await kube.create("jobs", namespace, manifest("a"))
    await holds(jobs, "a")
    await kube.delete("jobs", namespace, "a")
    await holds(jobs)


async def test_the_object_that_is_excepted_is_neither_listed_nor_watched(
    kube: Kube, namespace: str, kube_proxy: FaultProxy
) -> None:
    await kube.create("jobs", namespace, manifest("own"))
    async with following(kube_proxy, namespace, except_name="own") as jobs:
        labels = {"metadata": {"labels": {"changed": "yes"}}}
        await kube.patch("jobs", namespace, "own", labels)
        await kube.create("jobs", namespace, manifest("other"))
        await holds(jobs, "other")


async def test_changes_while_the_watch_is_down_are_seen_afterwards(
    jobs: Cache[Job], kube: Kube, namespace: str, kube_proxy: FaultProxy
) -> None:
    await kube.create("jobs", namespace, manifest("a"))
    await holds(jobs, "a")
    with kube_proxy.offline():
        await kube.create("jobs", namespace, manifest("b"))
        await kube.delete("jobs", namespace, "a")
    await holds(jobs, "b")


async def test_a_silent_watch_is_opened_again_without_a_new_list(
    monkeypatch: pytest.MonkeyPatch, jobs: Cache[Job], kube_proxy: FaultProxy
) -> None:
    monkeypatch.setattr(reflectors, "SILENCE_SECONDS", 0.3)

    async def watches() -> int:
        return requests(kube_proxy, watches=True)

    kube_proxy.cut()  # the open one still waits for longer
    lists = requests(kube_proxy, watches=False)
    before = await watches()
    await poll(watches, until=lambda count: count >= before + 4)
    assert requests(kube_proxy, watches=False) <= lists + 1


async def test_an_expired_resource_version_causes_a_new_list(
    jobs: Cache[Job], kube: Kube, namespace: str, kube_proxy: FaultProxy
) -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    kube_proxy.on("GET", r"/jobs$", query="watch=true").once().answer(410, json=gone)
    lists = requests(kube_proxy, watches=False)
    kube_proxy.cut()

    async def listed() -> int:
        return requests(kube_proxy, watches=False)

    await poll(listed, until=lambda count: count > lists)
    await kube.create("jobs", namespace, manifest("a"))
    await holds(jobs, "a")


async def test_objects_of_others_are_neither_sent_nor_kept(
    jobs: Cache[Job], kube: Kube, namespace: str, kube_proxy: FaultProxy
) -> None:
    """The API server selects: fifty thousand pods of others cost the operator nothing."""
    other = manifest("other")
    other["metadata"] = {"name": "other"}
    await kube.create("jobs", namespace, other)
    await kube.create("jobs", namespace, manifest("own"))
    await holds(jobs, "own")
    calls = kube_proxy.calls(r"/jobs$", method="GET")
    assert calls
    assert all("labelSelector=tests" in call.query for call in calls)
