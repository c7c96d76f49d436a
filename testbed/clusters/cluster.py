"""The interface of the clusters that the demo and the tests run on."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from localnode.kubectl import Kubectl


class Cluster(Protocol):
    """A Kubernetes cluster that runs images given as archives."""

    @property
    def name(self) -> str: ...

    @property
    def kubeconfig(self) -> Path:
        """Self-contained; valid on this machine."""

    @property
    def kubectl(self) -> Kubectl: ...

    @property
    def host_address(self) -> str:
        """Where pods reach a server of this machine that listens on this address or on all."""

    @property
    def node_address(self) -> str:
        """Where this machine reaches a NodePort."""

    def up(self) -> None:
        """Return when the node is Ready and DNS answers; does nothing if they are."""

    def down(self) -> None:
        """Remove everything of the cluster, whatever state it is in."""

    def is_up(self) -> bool: ...

    def has_image(self, reference: str) -> bool: ...

    def load_image(self, archive: Path) -> None:
        """Load an image archive in OCI's or Docker's format."""
