"""`python -m benchmarks.loop_steps FILE run ...`: the operator, whose loop's steps are measured.

A step is one callback, between two of which the event loop can do something else. On SIGUSR1 the
longest steps so far are written to FILE, by CPU time of the loop's thread and by wall clock, and
are forgotten. The wall clock time includes what other processes took of the CPU meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from localnode.errors import SetupError

ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Longest:
    """The longest steps: seconds, and what ran in that with the most CPU time."""

    cpu_seconds: float
    wall_seconds: float
    what: str


def program(file: Path) -> list[str]:
    """Return the program that stands for `workpool-operator`."""
    return [sys.executable, "-m", "benchmarks.loop_steps", str(file)]


def longest_steps(pid: int, file: Path) -> Longest:
    """Return the longest steps of the process since the last call."""
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    until = time.monotonic() + ANSWER_SECONDS
    while not file.exists():
        if time.monotonic() > until:
            raise SetupError(f"process {pid} did not write {file} within {ANSWER_SECONDS} s")
        time.sleep(0.01)
    return Longest(**json.loads(file.read_text()))


class Steps:
    """Measures every step of every loop of this process from its creation on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._wall = self._cpu = 0.0
        self._what = ""
        self._run = asyncio.Handle._run

        def run(handle: asyncio.Handle) -> None:
            self.measure(handle)

        asyncio.Handle._run = run  # type: ignore[assignment, method-assign]
        signal.signal(signal.SIGUSR1, lambda *_: self.write())

    def measure(self, handle: asyncio.Handle) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        self._run(handle)
        self._wall = max(self._wall, time.perf_counter() - wall)
        if (used := time.thread_time() - cpu) > self._cpu:
            self._cpu, self._what = used, repr(handle)

    def write(self) -> None:
        steps = {"cpu_seconds": self._cpu, "wall_seconds": self._wall, "what": self._what}
        self._wall = self._cpu = 0.0
        aside = self._file.with_suffix(".new")
        aside.write_text(json.dumps(steps))
        aside.rename(self._file)


def main() -> None:
    Steps(Path(sys.argv.pop(1)))
    sys.argv[0] = "workpool-operator"
    from workpool_operator.cli import app  # noqa: PLC0415 - its imports are not part of a step

    app()


if __name__ == "__main__":
    main()
