"""`python -m benchmarks.loop_steps FILE run ...`: the operator, whose loop's steps are measured.

A step is one callback, between two of which the event loop can do something else. On SIGUSR1 the
longest steps so far are written to FILE and forgotten: by CPU time of the loop's thread, and the
longest by wall clock, which includes what other processes took of the CPU meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from localnode.errors import SetupError

ANSWER_SECONDS = 30
KEPT = 5  # by CPU time


@dataclass(frozen=True, slots=True)
class Longest:
    """The longest steps by CPU time: seconds, and what ran; and the longest by wall clock."""

    steps: Sequence[tuple[float, str]]
    wall_seconds: float

    @property
    def cpu_seconds(self) -> float:
        return self.steps[0][0]


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
    """Measures, inside its context, every step of every loop of this process."""

    def __init__(self) -> None:
        self._wall = 0.0
        self._longest: list[tuple[float, str]] = []  # a heap
        self._collected = ""
        self._run = asyncio.Handle._run

    def __enter__(self) -> Self:
        def run(handle: asyncio.Handle) -> None:
            self._measure(handle)

        asyncio.Handle._run = run  # type: ignore[assignment, method-assign]
        gc.callbacks.append(self._note_collection)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.Handle._run = self._run  # type: ignore[method-assign]
        gc.callbacks.remove(self._note_collection)

    def take(self) -> Longest:
        """Return the longest steps since the last call."""
        taken = Longest(sorted(self._longest, reverse=True), self._wall)
        self._wall, self._longest = 0.0, []
        return taken

    def _measure(self, handle: asyncio.Handle) -> None:
        self._collected = ""
        wall, cpu = time.perf_counter(), time.thread_time()
        self._run(handle)
        used = time.thread_time() - cpu
        self._wall = max(self._wall, time.perf_counter() - wall)
        if len(self._longest) < KEPT:
            heapq.heappush(self._longest, (used, _what(handle) + self._collected))
        elif used > self._longest[0][0]:
            heapq.heapreplace(self._longest, (used, _what(handle) + self._collected))

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            self._collected = f", with a garbage collection of generation {info['generation']}"


def _what(handle: asyncio.Handle) -> str:
    """Return the task, or the callback."""
    callback = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return f"{getattr(task.get_coro(), '__qualname__', '')} ({task.get_name()})"
    return str(getattr(callback, "__qualname__", callback))


def main() -> None:
    file = Path(sys.argv.pop(1))
    sys.argv[0] = "workpool-operator"
    with Steps() as steps:

        def write(*_: object) -> None:
            aside = file.with_suffix(".new")
            aside.write_text(json.dumps(asdict(steps.take())))
            aside.rename(file)

        signal.signal(signal.SIGUSR1, write)
        from workpool_operator.cli import app  # noqa: PLC0415 - its imports are not part of a step

        app()


if __name__ == "__main__":
    main()
