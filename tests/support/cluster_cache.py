"""ClusterCaches without a cluster: a test fills them."""

from __future__ import annotations

from typing import cast

from workpool_operator.kube.client import JOBS, PODS, KubernetesClient
from workpool_operator.kube.cluster import ClusterCache

NAMESPACE = "data"


def unsynced_cluster() -> ClusterCache:
    """Return a cache whose namespace is never listed."""
    cluster = ClusterCache(cast("KubernetesClient", None), selector="")
    cluster.watch(NAMESPACE)
    return cluster


def synced_cluster(namespace: str = NAMESPACE) -> ClusterCache:
    """Return an empty cache whose namespace was listed."""
    cluster = ClusterCache(cast("KubernetesClient", None), selector="")
    cluster.watch(namespace)
    for resource in (JOBS, PODS):
        cluster._followed(namespace, resource.plural, None)
    return cluster
