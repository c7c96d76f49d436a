"""A Kubernetes node in namespaces of this machine.

`up` continues what an earlier one left, `down` leaves nothing, and both can be repeated. One
process at a time does either.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from localnode import addresses, boot, builds, cleanup, processes, progress, runtime
from localnode.addresses import Addresses
from localnode.cache import Cache
from localnode.errors import SetupError
from localnode.kubectl import Kubectl
from localnode.layout import Node
from localnode.lock import exclusive


class LocalNode:
    """The node whose state is in a folder; the folder's name is the node's."""

    def __init__(
        self,
        state: Path,
        cache: Cache,
        *,
        up_command: str = "localnode up",
        kubernetes: str = builds.DEFAULT_KUBERNETES,
    ) -> None:
        """`cache` is where its programs are built; `up_command` is what messages tell to run."""
        self.state = state
        self.name = state.name
        self.cache = cache
        self.up_command = up_command
        self._programs = builds.node(kubernetes)

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        node = processes.running(self.state)
        binaries = node.binaries if node else self._programs.build(self.cache)
        return Kubectl(binaries / "kubectl", self.kubeconfig)

    @property
    def host_address(self) -> str:
        """The address of this machine as the node and its pods reach it."""
        return self._addresses.host

    @property
    def node_address(self) -> str:
        return self._addresses.node

    def up(self) -> None:
        """Return when the node is Ready and DNS answers."""
        _require_root()
        if not self.is_up():
            self._programs.build(self.cache)  # not under the lock: it takes minutes
        with exclusive(self.state, purpose=f"changes node {self.name}"):
            if (running := processes.running(self.state)) and self.is_up():
                boot.wait_until_ready(running, self.cache)
            else:
                self._start()

    def down(self) -> None:
        """Remove the node, its state folder and everything of it on the machine."""
        if not self.state.exists() and addresses.held_by(self.state) is None:
            return
        _require_root()
        with exclusive(self.state, purpose=f"changes node {self.name}"):
            cleanup.remove(self.state)
            addresses.release(self.state)
            shutil.rmtree(self.state)

    def is_up(self) -> bool:
        if processes.init_pid(self.state) is None or not self.kubeconfig.exists():
            return False
        return self.kubectl.succeeds("get", "--raw=/readyz")

    def has_image(self, reference: str) -> bool:
        return runtime.has_image(self.state, reference)

    def load_image(self, archive: Path) -> None:
        """Load an image archive in OCI's or Docker's format."""
        runtime.load_image(self.state, archive)

    def _start(self) -> None:
        block = addresses.claim(self.state)
        node = Node(self.name, self.state, block, self._programs.build(self.cache))
        if node.failure.exists():
            print(f"node {self.name} had ended: {node.failure.read_text()}", flush=True)
        with progress.step(f"starting node {self.name} at {block.node}"):
            cleanup.remove(self.state)
            boot.start(node)
            boot.wait_until_ready(node, self.cache)

    @property
    def _addresses(self) -> Addresses:
        block = addresses.held_by(self.state)
        if block is None:
            raise SetupError(f"node {self.name} is not up: run '{self.up_command}'")
        return block


def _require_root() -> None:
    if os.geteuid() != 0:
        raise SetupError("a node in namespaces of this machine needs root: run it as root")
