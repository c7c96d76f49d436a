"""Finds and removes what a local node leaves on the machine, however it ended.

Promises: after `remove` no process, mount, interface, rule or cgroup of the node is left. It goes
by what the machine shows, not by notes that a killed process could not write. Mounts and rules live
in the node's namespaces and go with its last process.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from testbed import commands
from testbed.clusters import cgroups, slots
from testbed.clusters.slots import Slot
from testbed.errors import TestbedError

MODULE = "testbed.clusters.node"


def pid_of_node(state: Path) -> int | None:
    """The host's number of the node's pid 1."""
    return next((pid for pid in _processes(state) if _is_first_of_its_namespace(pid)), None)


def remove(state: Path) -> None:
    """Everything but the state folder and the slot. Can be repeated after an interruption."""
    stop(state)
    slot = slots.held_by(state)
    if slot is not None:
        cgroups.remove(cgroups.name_of(slot, state.name))
        remove_interface(slot)


def stop(state: Path) -> None:
    """Kills pid 1 and so everything in its namespaces; returns when the last process is gone."""
    deadline = time.monotonic() + 20
    while processes := _processes(state):
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TestbedError(f"process {processes[0]} of node {state.name} does not end")
        time.sleep(0.02)


def remove_interface(slot: Slot) -> None:
    """It goes with the node's network namespace too, but later."""
    if Path("/sys/class/net", slot.interface).exists():
        with suppress(TestbedError):  # gone in between
            commands.run(["ip", "link", "delete", slot.interface])


def _processes(state: Path) -> list[int]:
    """Of the node's pid 1 and of the `unshare` above it: both name module and state folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                argv = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if MODULE in argv and str(state) in argv:
                    found.append(int(folder.name))
    return found


def _is_first_of_its_namespace(pid: int) -> bool:
    with suppress(OSError):
        for line in Path("/proc", str(pid), "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return len(numbers) > 1 and numbers[-1] == "1"
    return False
