"""Marks the processes of one test with an environment variable, so that they can be found.

Parallel tests do not see each other's processes. What a whole run shares has no mark.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "WORKPOOL_OPERATOR_TEST_ID"


@dataclass(frozen=True)
class Process:
    pid: int
    command: str


@contextmanager
def applied(mark: str) -> Iterator[None]:
    """Mark every process that this one starts within the context."""
    os.environ[VARIABLE] = mark
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


@contextmanager
def removed() -> Iterator[None]:
    mark = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if mark is not None:
            os.environ[VARIABLE] = mark


def processes(mark: str) -> list[Process]:
    """Return the other live processes with the mark, or with one that continues it after a ":"."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is another user's
            if int(folder.name) != os.getpid() and _bears(folder, mark):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append(Process(int(folder.name), command.decode(errors="replace").strip()))
    return found


def _bears(folder: Path, mark: str) -> bool:
    environment = b"\0" + (folder / "environ").read_bytes() + b"\0"
    sought = f"\0{VARIABLE}={mark}".encode()
    return sought + b"\0" in environment or sought + b":" in environment
