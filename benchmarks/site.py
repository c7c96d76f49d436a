"""The servers that both sides share: the checkout's cluster, a Prefect server, a proxy before it.

Promises: server and proxy end with the context; the cluster, its CRD and the run image stay.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from localnode import commands
from testbed import clusters, images
from testbed.clusters import Cluster
from testbed.prefect_server import PrefectServer
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.operator import PROGRAM
from tests.support.prefect import PrefectApi


@dataclass(frozen=True, slots=True)
class Site:
    """`api` goes past the proxy; `logs` is a folder."""

    cluster: Cluster
    kube: Kube
    api: PrefectApi
    proxy: FaultProxy
    image: str
    logs: Path


@asynccontextmanager
async def opened(logs: Path) -> AsyncIterator[Site]:
    """Everything is up when the context is entered."""
    cluster = clusters.select(os.environ).cluster
    cluster.up()
    image = images.run_image(cluster)
    cluster.kubectl.run("apply", "--server-side", "-f-", stdin=commands.run([PROGRAM, "crd"]))
    print("==> starting a Prefect server on PostgreSQL", flush=True)
    with (
        PrefectServer(logs / "prefect") as server,
        FaultProxy(Endpoint(server.url)) as proxy,
    ):
        async with (
            Kube(Endpoint.of_kubeconfig(cluster.kubeconfig)) as kube,
            PrefectApi(server.url) as api,
        ):
            yield Site(cluster, kube, api, proxy, image, logs)
