"""Finds the processes of a node by what the machine shows, not by notes: a process that was killed
could not update them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from localnode.layout import Node

#: Pid 1 of a node: `python -m localnode.init NAME STATE NUMBER BINARIES`.
INIT = "localnode.init"


def init_pid(state: Path) -> int | None:
    """Return the host's number of the node's pid 1."""
    return next((pid for pid in of_node(state) if _is_first_of_its_namespace(pid)), None)


def running(state: Path) -> Node | None:
    """Return the node that runs with this state folder, as its pid 1 was started."""
    pid = init_pid(state)
    return Node.from_argv(_argv(pid)[-4:]) if pid is not None else None


def of_node(state: Path) -> list[int]:
    """Return the node's pid 1 and the `unshare` above it: both name the module and the folder."""
    numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [pid for pid in numbers if _belongs_to(state, pid)]


def _belongs_to(state: Path, pid: int) -> bool:
    with suppress(OSError):
        argv = _argv(pid)
        return str(state) in argv and INIT in argv
    return False


def _argv(pid: int) -> list[str]:
    command_line = Path("/proc", str(pid), "cmdline").read_bytes().decode(errors="replace")
    return command_line.rstrip("\0").split("\0")


def _is_first_of_its_namespace(pid: int) -> bool:
    with suppress(OSError):
        for line in Path("/proc", str(pid), "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return len(numbers) > 1 and numbers[-1] == "1"
    return False
