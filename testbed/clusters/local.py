"""A Kubernetes node in namespaces of this machine, without Docker.

Promises: `up` continues whatever an earlier one left, `down` leaves nothing, both can be repeated,
and one process at a time does either.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from testbed import builds, progress, state
from testbed.clusters import boot, remains, runtime, slots
from testbed.clusters.kubectl import Kubectl
from testbed.clusters.layout import Node
from testbed.errors import TestbedError


class LocalCluster:
    def __init__(self, folder: Path) -> None:
        self.state = folder
        self.name = folder.name

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(builds.tool("kubectl"), self.kubeconfig)

    @property
    def host_address(self) -> str:
        return self._slot.host_address

    @property
    def node_address(self) -> str:
        return self._slot.node_address

    def up(self) -> None:
        _require_root()
        binaries = builds.binaries()
        with state.exclusive(self.state, purpose=f"changes cluster {self.name}"):
            node = Node(self.name, self.state, slots.claim(self.state), binaries)
            if self.is_up():
                boot.wait_until_ready(node, self.kubectl)
                return
            if node.failure.exists():
                print(f"node {self.name} had ended: {node.failure.read_text()}", flush=True)
            with progress.step(f"starting node {self.name} at {node.slot.node_address}"):
                remains.remove(self.state)
                boot.start(node)
                boot.wait_until_ready(node, self.kubectl)

    def down(self) -> None:
        if not self.state.exists() and slots.held_by(self.state) is None:
            return
        _require_root()
        with state.exclusive(self.state, purpose=f"changes cluster {self.name}"):
            remains.remove(self.state)
            slots.release(self.state)
            shutil.rmtree(self.state)

    def is_up(self) -> bool:
        if remains.pid_of_node(self.state) is None or not self.kubeconfig.exists():
            return False
        return self.kubectl.succeeds("get", "--raw=/readyz")

    def has_image(self, reference: str) -> bool:
        return runtime.has_image(self.state, reference)

    def load_image(self, archive: Path) -> None:
        runtime.load_image(self.state, archive)

    @property
    def _slot(self) -> slots.Slot:
        slot = slots.held_by(self.state)
        if slot is None:
            raise TestbedError(f"cluster {self.name} is not up: run 'make cluster'")
        return slot


def _require_root() -> None:
    if os.geteuid() != 0:
        raise TestbedError(
            "a node in namespaces of this machine needs root: run it as root, or start Docker and"
            " get a cluster by kind, or name one of your own by CLUSTER=existing"
        )
