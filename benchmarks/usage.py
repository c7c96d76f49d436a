"""Memory and processor time of a program, by the kernel's count: its process and all children."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu_seconds` since the start, user and system; resident memory now."""

    cpu_seconds: float
    resident_bytes: int


def of_session(leader: int) -> Usage:
    """Of all processes in the session that `leader` leads."""
    ticks = pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            # The program's name comes first, in brackets, and may hold anything.
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(stat[3]) == leader:
                ticks += int(stat[11]) + int(stat[12])
                pages += int(stat[21])
    return Usage(ticks / TICKS_PER_SECOND, pages * PAGE_BYTES)
