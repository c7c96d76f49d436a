"""The images of a running node, managed by containerd's own client inside the node."""

from __future__ import annotations

from pathlib import Path

from localnode import commands, processes
from localnode.errors import SetupError

NAMESPACE = "k8s.io"  # the kubelet's


def has_image(state: Path, reference: str) -> bool:
    images = commands.run(_ctr(state, "images", "list", "--quiet", f"name=={reference}"))
    return reference in images.split()


def load_image(state: Path, archive: Path) -> None:
    with archive.open("rb") as content:
        commands.run(_ctr(state, "images", "import", "-"), stdin=content)


def _ctr(state: Path, *arguments: str) -> list[str | Path]:
    pid, node = processes.init_pid(state), processes.running(state)
    if pid is None or node is None:
        raise SetupError(f"node {state.name} is not up: bring it up before you load images")
    # Its mounts, its root (which a chroot may have moved) and its process numbers.
    enter = ["nsenter", f"--target={pid}", "--mount", "--root", "--pid", "--"]
    return [*enter, node.binaries / "ctr", f"--namespace={NAMESPACE}", *arguments]
