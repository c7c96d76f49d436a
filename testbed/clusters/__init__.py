"""Selects the cluster that the demo and the tests run on.

Only CLUSTER=existing uses a cluster that the user's KUBECONFIG names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localnode import commands
from localnode.builds import DEFAULT_KUBERNETES
from localnode.errors import SetupError
from localnode.node import LocalNode
from testbed import state
from testbed.clusters.cluster import Cluster
from testbed.clusters.existing import ExistingCluster
from testbed.clusters.kind import KindCluster

__all__ = ["Cluster", "Selection", "local", "select"]


@dataclass(frozen=True)
class Selection:
    cluster: Cluster
    reason: str


def select(environ: Mapping[str, str]) -> Selection:
    """Return the cluster that `CLUSTER` names; without it kind if Docker answers, else a node."""
    folder = state.folder(environ)
    version = environ.get("KUBERNETES")
    if version and environ.get("CLUSTER") not in (None, "", "local"):
        fix = "unset CLUSTER, or unset KUBERNETES and use a cluster of that version"
        raise SetupError(f"KUBERNETES={version} needs a node that is built from source: {fix}")
    match environ.get("CLUSTER", ""):
        case "local":
            return Selection(local(environ), "CLUSTER=local asks for it")
        case "kind":
            return Selection(KindCluster(folder), "CLUSTER=kind asks for it")
        case "existing":
            return Selection(ExistingCluster.of(environ), "CLUSTER=existing asks for it")
        case "" if version:
            reason = f"KUBERNETES={version} needs a node that is built from source"
            return Selection(local(environ), reason)
        case "" if commands.succeeds_if_installed(["docker", "info"]):
            return Selection(KindCluster(folder), "'docker info' answers")
        case "":
            reason = "'docker info' does not answer, so it is a node in namespaces of this machine"
            return Selection(local(environ), reason)
        case unknown:
            raise SetupError(f"CLUSTER={unknown!r} is unknown: use local, kind or existing")


def local(environ: Mapping[str, str]) -> LocalNode:
    """Return the node of the checkout, or of `CLUSTER_NAME`, with the version of `KUBERNETES`."""
    return LocalNode(
        state.folder(environ),
        state.cache(environ),
        up_command="make cluster",
        kubernetes=environ.get("KUBERNETES") or DEFAULT_KUBERNETES,
    )
