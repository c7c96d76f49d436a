"""A ClusterCache without a cluster, which holds what a test puts there."""

from __future__ import annotations

from typing import cast

from workpool_operator.kube.client import JOBS, PODS, KubernetesClient
from workpool_operator.kube.cluster import ClusterCache

NAMESPACE = "data"


def unsynced_cluster() -> ClusterCache:
    """One whose namespace was not listed yet, and never is."""
    cluster = ClusterCache(cast("KubernetesClient", None), selector="")
    cluster.watch(NAMESPACE)
    return cluster


def synced_cluster(namespace: str = NAMESPACE) -> ClusterCache:
    """One whose namespace was listed, and was empty."""
    cluster = ClusterCache(cast("KubernetesClient", None), selector="")
    cluster.watch(namespace)
    for resource in (JOBS, PODS):
        cluster._followed(namespace, resource.plural, None)
    return cluster
