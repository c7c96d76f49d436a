"""The clusters that the demo and the tests run on, all behind one small interface.

Promises: `select` says which cluster it takes and why; only CLUSTER=existing touches a cluster that
the user's KUBECONFIG names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from testbed import commands, state
from testbed.clusters.kubectl import Kubectl
from testbed.errors import TestbedError


class Cluster(Protocol):
    """A Kubernetes cluster that runs images given as archives."""

    @property
    def name(self) -> str: ...

    @property
    def kubeconfig(self) -> Path:
        """Complete in itself; valid from the host."""

    @property
    def kubectl(self) -> Kubectl: ...

    @property
    def host_address(self) -> str:
        """At which pods reach a server of the host that is bound to this address or to all."""

    @property
    def node_address(self) -> str:
        """At which the host reaches a NodePort."""

    def up(self) -> None:
        """Returns when the node is Ready and DNS serves; does nothing where they are."""

    def down(self) -> None:
        """Leaves nothing of the cluster behind, whatever state it is in."""

    def is_up(self) -> bool: ...

    def has_image(self, reference: str) -> bool: ...

    def load_image(self, archive: Path) -> None:
        """Takes an image archive of OCI's or Docker's format."""


@dataclass(frozen=True)
class Selection:
    cluster: Cluster
    why: str


def select(environ: Mapping[str, str]) -> Selection:
    """`CLUSTER` decides; without it kind where Docker answers, else the local node."""
    from testbed.clusters.existing import ExistingCluster
    from testbed.clusters.kind import KindCluster
    from testbed.clusters.local import LocalCluster

    match environ.get("CLUSTER", ""):
        case "local":
            return Selection(LocalCluster(state.folder(environ)), "CLUSTER=local asks for it")
        case "kind":
            return Selection(KindCluster(state.folder(environ)), "CLUSTER=kind asks for it")
        case "existing":
            return Selection(ExistingCluster.of(environ), "CLUSTER=existing asks for it")
        case "" if commands.succeeds_if_installed(["docker", "info"]):
            return Selection(KindCluster(state.folder(environ)), "'docker info' answers")
        case "":
            why = "'docker info' does not answer, so it is a node in namespaces of this machine"
            return Selection(LocalCluster(state.folder(environ)), why)
        case unknown:
            raise TestbedError(f"CLUSTER={unknown!r} is unknown: use local, kind or existing")
