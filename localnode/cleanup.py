"""Removes what a node leaves on the machine, however it ended.

After `remove` no process, mount, interface, rule or cgroup of the node is left. Mounts and rules
live in the node's namespaces and go with its last process.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from localnode import addresses, cgroups, commands, processes
from localnode.addresses import Addresses
from localnode.errors import SetupError

END_SECONDS = 20


def remove(state: Path) -> None:
    """Remove all but the state folder and the addresses; can be repeated after an interruption."""
    stop(state)
    block = addresses.held_by(state)
    if block is not None:
        cgroups.remove(cgroups.name_of(block, state.name))
        remove_interface(block)


def stop(state: Path) -> None:
    """Kill pid 1 and so everything in its namespaces; returns when the last process is gone."""
    deadline = time.monotonic() + END_SECONDS
    while pids := processes.of_node(state):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise SetupError(
                f"process {pids[0]} of node {state.name} does not end within {END_SECONDS} s"
            )
        time.sleep(0.02)


def remove_interface(block: Addresses) -> None:
    """Remove the veth pair; it goes with the node's network namespace too, but later."""
    if Path("/sys/class/net", block.interface).exists():
        with suppress(SetupError):  # gone in between
            commands.run(["ip", "link", "delete", block.interface])
