"""Where a node keeps its files, seen from the host and from inside.

Inside, /var/lib and /var/log are the state folder's `lib` and `log`, so that each program finds its
usual places and none of them is the machine's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localnode.addresses import Addresses
from localnode.kubectl import Kubectl

#: The names that Kubernetes accepts for a node, kept short.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
NAME_RULE = "use up to 40 lower-case letters, digits and '-'"

SERVICES = "10.96.0.0/16"
DNS_ADDRESS = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"
# Inside the node.
BINARIES = "/run/binaries"
CONFIGURATION = "/var/lib/configuration"
VOLUME_PLUGINS = "/var/lib/kubelet/volume-plugins"
RESOLV_CONF = "/run/resolv.conf"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Node:
    name: str
    state: Path
    addresses: Addresses
    binaries: Path

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> Node:
        name, state, number, binaries = argv
        return cls(name, Path(state), Addresses(int(number)), Path(binaries))

    @property
    def argv(self) -> list[str]:
        return [self.name, str(self.state), str(self.addresses.number), str(self.binaries)]

    @property
    def lib(self) -> Path:
        return self.state / "lib"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def configuration(self) -> Path:
        """As seen from the host; inside it is CONFIGURATION."""
        return self.lib / "configuration"

    @property
    def failure(self) -> Path:
        """Why the node ended by itself, in a sentence."""
        return self.state / "failure"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.binaries / "kubectl", self.kubeconfig)

    @property
    def server(self) -> str:
        return f"https://{self.addresses.node}:6443"

    def log_of(self, component: str) -> Path:
        return self.log / f"{component}.log"
