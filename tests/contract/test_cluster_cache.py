"""The cache of several namespaces, on the real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs
from uuid import UUID, uuid4

from kubernetes_asyncio.client import Configuration

from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.polling import poll
from workpool_operator.errors import OperatorError
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.cluster import ClusterCache, Subscriber
from workpool_operator.kube.models import RUN_LABEL

LABEL = "tests/cluster-cache"


def manifest(run_id: UUID) -> dict[str, object]:
    labels = {LABEL: "yes", RUN_LABEL: str(run_id)}
    pod = {"containers": [{"name": "c", "image": "none"}], "restartPolicy": "Never"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "metadata": {"name": f"of-{run_id}", "labels": labels},
        "spec": {"suspend": True, "template": template},
    }


class Recorder(Subscriber):
    """Records its calls."""

    def __init__(self) -> None:
        self.changes: list[UUID] = []
        self.failures: dict[str, OperatorError] = {}

    def changed(self, run_id: UUID) -> None:
        self.changes.append(run_id)

    def failed(self, namespace: str, resource: str, error: OperatorError) -> None:
        self.failures[namespace] = error


@asynccontextmanager
async def following(url: str, *namespaces: str) -> AsyncIterator[tuple[ClusterCache, Recorder]]:
    """A running cache that watches the namespaces one after the other."""
    recorder = Recorder()
    async with KubernetesClient(Configuration(host=url)) as client:
        cluster = ClusterCache(client, selector=f"{LABEL}=yes")
        with cluster.subscribe(recorder):
            task = asyncio.create_task(cluster.run())
            await asyncio.sleep(0)
            for namespace in namespaces:
                cluster.watch(namespace)
            yield cluster, recorder
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def names_of(cluster: ClusterCache, run_id: UUID) -> list[tuple[str, str]]:
    jobs = cluster.objects(run_id).jobs
    return sorted((job.metadata.namespace, job.name) for job in jobs)


async def test_a_run_is_found_in_each_namespace_that_is_watched(
    kube_proxy: FaultProxy, kube: Kube, namespace: str, other_namespace: str
) -> None:
    run_id = uuid4()
    name = f"of-{run_id}"
    async with following(kube_proxy.url, namespace, other_namespace) as (cluster, recorder):
        for where in (namespace, other_namespace):
            await kube.create("jobs", where, manifest(run_id))
        both = sorted([(namespace, name), (other_namespace, name)])
        await poll(lambda: names_of(cluster, run_id), until=lambda found: found == both)
        await kube.delete("jobs", other_namespace, name)
        left = [(namespace, name)]
        await poll(lambda: names_of(cluster, run_id), until=lambda found: found == left)
        assert [job.metadata.namespace for job in cluster.objects(run_id).deleted_jobs] == [
            other_namespace
        ]
        assert set(recorder.changes) == {run_id}


async def test_a_namespace_that_cannot_be_listed_leaves_the_others_synced(
    kube_proxy: FaultProxy, namespace: str, other_namespace: str
) -> None:
    kube_proxy.on("GET", rf"/namespaces/{other_namespace}/jobs$").answer(
        403, json={"message": "no"}
    )
    async with following(kube_proxy.url, namespace, other_namespace) as (cluster, recorder):

        async def failures() -> dict[str, OperatorError]:
            return recorder.failures

        await poll(failures, until=bool)

        async def synced() -> list[bool]:
            return [cluster.is_synced(each) for each in (namespace, other_namespace, "not-watched")]

        await poll(synced, until=lambda found: found == [True, False, False])
        assert set(recorder.failures) == {other_namespace}


async def test_objects_of_others_stay_at_the_api_server(
    kube_proxy: FaultProxy, kube: Kube, namespace: str
) -> None:
    """Fifty thousand of them cost the operator nothing: `python -m benchmarks memory`."""
    run_id = uuid4()
    others = manifest(uuid4()) | {"metadata": {"name": "others", "labels": {"app": "others"}}}
    async with following(kube_proxy.url, namespace) as (cluster, recorder):
        await kube.create("jobs", namespace, others)
        await kube.create("jobs", namespace, manifest(run_id))
        await poll(lambda: names_of(cluster, run_id), until=bool)
        assert [job.run_id for job in cluster.jobs] == [str(run_id)]
        assert set(recorder.changes) == {run_id}
        requests = kube_proxy.calls(f"/namespaces/{namespace}/(jobs|pods)$")
        assert len(requests) >= 4, "a list and a watch of each"
        selectors = [parse_qs(each.query)["labelSelector"] for each in requests]
        assert selectors == [[f"{LABEL}=yes"]] * len(requests)
