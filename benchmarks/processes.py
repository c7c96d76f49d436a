"""What the kernel counts of other processes: their CPU time and their memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CPUCLOCK_SCHED = 2  # include/linux/posix-timers.h: user and system time, in nanoseconds
BENCHMARK = "this benchmark"
#: Names of programs, cut to 15 characters by the kernel.
PROGRAMS = {
    "postgres": "PostgreSQL",
    "kube-apiserver": "kube-apiserver",
    "etcd": "etcd",
    "kube-scheduler": "kube-scheduler",
    "kube-controller": "kube-controller-manager",
    "kwok": "kwok",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since the start, user and system; resident memory now."""

    cpu_seconds: float
    resident_bytes: int

    @classmethod
    def of_session(cls, leader: int) -> Usage:
        """Add up all processes in the session that `leader` leads."""
        return cls._of(each.pid for each in _processes() if each.session == leader)

    @classmethod
    def of_process(cls, pid: int) -> Usage:
        """Return the usage of one process; nothing if it has ended."""
        return cls._of(iter([pid]))

    @classmethod
    def _of(cls, pids: Iterator[int]) -> Usage:
        seconds, pages = 0.0, 0
        for pid in pids:
            with suppress(OSError):  # it ended meanwhile
                seconds += _cpu_seconds(pid)
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(seconds, pages * PAGE_BYTES)


@dataclass(frozen=True, slots=True)
class MachineUsage:
    """CPU seconds by program, of all other programs, and the seconds that the CPUs offered."""

    cpu_seconds: Mapping[str, float]
    others: float
    offered: float

    def __sub__(self, before: MachineUsage) -> MachineUsage:
        used = {name: it - before.cpu_seconds[name] for name, it in self.cpu_seconds.items()}
        return MachineUsage(used, self.others - before.others, self.offered - before.offered)

    @property
    def others_share(self) -> float:
        return self.others / self.offered


class Machine:
    """The programs that take part in a measurement: sessions by their leaders, and what is known by
    the name of its program."""

    def __init__(self, sessions: Mapping[str, int]) -> None:
        self._sessions = sessions

    def usage(self) -> MachineUsage:
        """Return what each has used since its start."""
        found = dict.fromkeys([*self._sessions, *PROGRAMS.values(), BENCHMARK], 0.0)
        names = {leader: name for name, leader in self._sessions.items()}
        for each in _processes():
            own = BENCHMARK if each.pid == os.getpid() else None
            if name := own or names.get(each.session) or PROGRAMS.get(each.program):
                with suppress(OSError):
                    found[name] += _cpu_seconds(each.pid) + each.ended_children_seconds
        busy, offered = _machine_seconds()
        return MachineUsage(found, busy - sum(found.values()), offered)


def _cpu_seconds(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)


def _machine_seconds() -> tuple[float, float]:
    """Return the seconds that all CPUs were busy, and that they have run."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    ticks = [int(each) for each in line.split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / TICKS_PER_SECOND, sum(ticks) / TICKS_PER_SECOND


@dataclass(frozen=True, slots=True)
class _Process:
    """A process; PostgreSQL, for example, has one for each connection, which ends with it."""

    pid: int
    session: int
    program: str
    ended_children_seconds: float


def _processes() -> Iterator[_Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The program's name comes first, in brackets, and may contain anything.
            name, _, rest = (folder / "stat").read_text().rpartition(")")
            fields = rest.split()
            ended = (int(fields[13]) + int(fields[14])) / TICKS_PER_SECOND
            yield _Process(int(folder.name), int(fields[3]), name.partition("(")[2], ended)
