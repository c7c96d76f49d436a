"""The cgroup of a node, in every hierarchy of the machine (version 1, 2 or both).

The cgroups of its pods lie below it, and `remove` leaves none of them.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from localnode.addresses import Addresses
from localnode.errors import SetupError

PARENT = "localnode"


def name_of(addresses: Addresses, node: str) -> str:
    """Return a name of its own for each node: two may have one name, in two state folders."""
    return f"{addresses.interface}-{node}"


def root(name: str) -> str:
    """Return the path that the kubelet takes: absolute within each hierarchy."""
    return f"/{PARENT}/{name}"


def create(name: str) -> None:
    for hierarchy in hierarchies():
        for folder in (hierarchy / PARENT, hierarchy / PARENT / name):
            _delegate_controllers(folder.parent)
            folder.mkdir(exist_ok=True)
        _delegate_controllers(hierarchy / PARENT / name)


def remove(name: str) -> None:
    """Kill what still runs in it, then remove it; can be repeated after an interruption."""
    for hierarchy in hierarchies():
        _remove_tree(hierarchy / PARENT / name)
        with suppress(OSError):  # absent, or another node's parent too
            (hierarchy / PARENT).rmdir()


def hierarchies() -> list[Path]:
    """Return the mount point of each cgroup hierarchy."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")]


def _delegate_controllers(folder: Path) -> None:
    """In version 2 a child has only the controllers that its parent delegates."""
    available = folder / "cgroup.controllers"
    if available.exists():
        for controller in available.read_text().split():
            with suppress(OSError):  # one that version 1 has taken
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _remove_tree(top: Path) -> None:
    deadline = time.monotonic() + 10
    folders = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
    for folder in folders:
        while folder.exists():
            _kill_members(folder)
            with suppress(OSError):
                folder.rmdir()
                break
            if time.monotonic() > deadline:
                raise SetupError(f"cgroup {folder} cannot be removed: see its cgroup.procs")
            time.sleep(0.05)


def _kill_members(folder: Path) -> None:
    with suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
