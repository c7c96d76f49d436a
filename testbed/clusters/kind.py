"""A kind cluster, which needs Docker, kind and kubectl; no root, no Debian package and no Go.

The user's KUBECONFIG is neither read nor changed.
"""

from __future__ import annotations

import ipaddress
import shutil
from functools import cached_property
from pathlib import Path

from localnode import commands, progress
from localnode.errors import SetupError
from localnode.kubectl import Kubectl
from localnode.lock import exclusive

DOCKER_NETWORK = "kind"


class KindCluster:
    def __init__(self, folder: Path) -> None:
        self.state = folder
        self.name = folder.name
        self._node = f"{self.name}-control-plane"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @cached_property
    def kubectl(self) -> Kubectl:
        return Kubectl(_installed("kubectl"), self.kubeconfig)

    @property
    def host_address(self) -> str:
        """The gateway of kind's network, which is this machine."""
        return _ipv4(
            "{{range (index .IPAM.Config)}}{{.Gateway}} {{end}}",
            "network",
            DOCKER_NETWORK,
        )

    @property
    def node_address(self) -> str:
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        return _ipv4(networks, "container", self._node)

    def up(self) -> None:
        with exclusive(self.state, purpose=f"changes cluster {self.name}"):
            if not self.is_up():
                with progress.step(f"creating kind cluster {self.name}"):
                    self._kind("delete", "cluster")
                    self._kind("create", "cluster", "--wait=180s")
            self.kubectl.run(
                "rollout",
                "status",
                "deployment/coredns",
                "--namespace=kube-system",
                "--timeout=180s",
            )

    def down(self) -> None:
        with exclusive(self.state, purpose=f"changes cluster {self.name}"):
            self._kind("delete", "cluster")
            shutil.rmtree(self.state)

    def is_up(self) -> bool:
        return self.kubeconfig.exists() and self.kubectl.succeeds("get", "--raw=/readyz")

    def has_image(self, reference: str) -> bool:
        return commands.succeeds(["docker", "exec", self._node, "crictl", "inspecti", reference])

    def load_image(self, archive: Path) -> None:
        commands.run([_installed("kind"), "load", "image-archive", archive, f"--name={self.name}"])

    def _kind(self, *arguments: str) -> None:
        where = [f"--name={self.name}", f"--kubeconfig={self.kubeconfig}"]
        commands.run_logged(
            [_installed("kind"), *arguments, *where], log=self.state / "log" / "kind.log"
        )


def _ipv4(template: str, kind: str, name: str) -> str:
    """Return the first IPv4 address that the template prints."""
    printed = commands.run(["docker", kind, "inspect", f"--format={template}", name]).split()
    for address in printed:
        if ipaddress.ip_address(address).version == 4:
            return address
    raise SetupError(f"docker {kind} {name} has no IPv4 address, only {printed}")


def _installed(program: str) -> Path:
    path = shutil.which(program)
    if path is None:
        raise SetupError(
            f"{program} is not on the PATH: install it, or use a local node with CLUSTER=local"
        )
    return Path(path)
