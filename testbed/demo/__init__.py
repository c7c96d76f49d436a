"""`make demo`: the project's main job on a real cluster, from nothing to a Completed run.

Promises: each step can be repeated, so that an interrupted demo continues where it was; what it
started stays up until `stop` and the cluster's `down`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from localnode import progress
from testbed import clusters, images, state
from testbed.clusters import Cluster
from testbed.clusters.existing import ExistingCluster
from testbed.demo import host_operator, objects, report, server
from testbed.demo.prefect_cli import DEPLOYMENT, PrefectCli
from testbed.demo.server import Addresses

__all__ = ["main", "stop"]


def main() -> None:
    """Everything, in the order in which a user would do it by hand."""
    selection = clusters.select(os.environ)
    cluster = selection.cluster
    print(f"cluster {cluster.name}: {selection.reason}", flush=True)
    image = _bring_up(cluster)
    api = _prefect_server(cluster, image)
    prefect = PrefectCli(api.host, state.folder())
    with progress.step("applying the CRD and the WorkPoolBinding"):
        binding = objects.apply(cluster.kubectl, api=api, folder=state.folder())
    with progress.step("creating the work pool"):
        prefect.create_pool(objects.POOL)
    with progress.step("starting the operator on this machine and deploying the flow"):
        operator = host_operator.restart(cluster.kubeconfig, state.folder())
        prefect.deploy(image)
        operator.wait_until_ready()
        objects.wait_until_ready(cluster.kubectl, operator_log=operator.log)
    print(f"==> prefect deployment run '{DEPLOYMENT}' --watch", flush=True)
    run = prefect.run_deployment(operator_log=operator.log)
    report.show_run(cluster.kubectl, prefect.api, run)
    report.show_next_steps(cluster.kubectl, prefect, operator=operator, binding=binding)


def stop() -> None:
    """Ends the operator that `main` left on this machine. Can be repeated."""
    host_operator.stop(state.folder())


def _bring_up(cluster: Cluster) -> str:
    """The cluster, and beside it the run image; the image's reference."""
    if isinstance(cluster, ExistingCluster):
        cluster.up()
        return images.run_image(cluster)
    with ThreadPoolExecutor(max_workers=1) as beside:
        image = beside.submit(images.build, images.RUN)
        cluster.up()
        image.result()
    return images.run_image(cluster)


def _prefect_server(cluster: Cluster, image: str) -> Addresses:
    """A cluster of the user's own brings its server."""
    if isinstance(cluster, ExistingCluster):
        url = os.environ["PREFECT_API_URL"]
        return Addresses(host=url, pods=url)
    with progress.step("starting the Prefect server in the cluster"):
        return server.start(cluster.kubectl, image=image, node_address=cluster.node_address)
