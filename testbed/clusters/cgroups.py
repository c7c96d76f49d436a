"""The cgroup of a local node, in every hierarchy of the machine (version 1, 2 or both).

Promises: what the node's pods make lies below it, and `remove` leaves none of it.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from testbed.clusters.slots import Slot
from testbed.errors import TestbedError

PARENT = "workpool-operator"


def name_of(slot: Slot, node: str) -> str:
    """Two nodes may bear one name, in two state folders, but not in one slot."""
    return f"{slot.interface}-{node}"


def root(name: str) -> str:
    """As the kubelet wants it: absolute within each hierarchy."""
    return f"/{PARENT}/{name}"


def create(name: str) -> None:
    for hierarchy in hierarchies():
        for folder in (hierarchy / PARENT, hierarchy / PARENT / name):
            _pass_controllers_on(folder.parent)
            folder.mkdir(exist_ok=True)
        _pass_controllers_on(hierarchy / PARENT / name)


def remove(name: str) -> None:
    """Kills what still runs in it, then removes it; an interrupted removal can be repeated."""
    for hierarchy in hierarchies():
        _remove_tree(hierarchy / PARENT / name)
        with suppress(OSError):  # absent, or another node's parent too
            (hierarchy / PARENT).rmdir()


def hierarchies() -> list[Path]:
    """The mount point of each cgroup hierarchy."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")]


def _pass_controllers_on(folder: Path) -> None:
    """Version 2 gives a child only the controllers that its parent hands down."""
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
                raise TestbedError(f"cgroup {folder} cannot be removed: see its cgroup.procs")
            time.sleep(0.05)


def _kill_members(folder: Path) -> None:
    with suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
