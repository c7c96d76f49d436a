"""The images of a local node, by containerd's own client run inside the node."""

from __future__ import annotations

from pathlib import Path

from testbed import builds, commands
from testbed.clusters import remains
from testbed.errors import TestbedError

NAMESPACE = "k8s.io"  # the kubelet's


def has_image(state: Path, reference: str) -> bool:
    listed = commands.run(_ctr(state, "images", "list", "--quiet", f"name=={reference}"))
    return reference in listed.split()


def load_image(state: Path, archive: Path) -> None:
    with archive.open("rb") as content:
        commands.run(_ctr(state, "images", "import", "-"), stdin=content)


def _ctr(state: Path, *arguments: str) -> list[str | Path]:
    pid = remains.pid_of_node(state)
    if pid is None:
        raise TestbedError(f"node {state.name} is not up: run 'make cluster'")
    # Its mounts, its root (which a chroot may have moved) and its process numbers.
    enter = ["nsenter", f"--target={pid}", "--mount", "--root", "--pid", "--"]
    return [*enter, builds.tool("ctr"), f"--namespace={NAMESPACE}", *arguments]
