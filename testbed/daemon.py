"""A child process that does not outlive the process that started it.

Its output goes to one log file. It ignores no signal that its parent ignores. `stop` ends its whole
process group, and the kernel ends it when its parent dies, even by SIGKILL. To the kernel the
parent is the *thread* that called `start`, so start daemons from a thread that lasts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from localnode.errors import SetupError

POLL_SECONDS = 0.05


@dataclass
class Daemon:
    """One command, started at most once."""

    name: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    #: Options of setpriv(1): another user, a gentler death signal.
    privileges: Sequence[str] = ("--pdeathsig", "KILL")
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number after a signal."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # What a shell starts in the background ignores SIGINT, and so do its children.
                ["setpriv", *self.privileges, "--", "env", "--default-signal", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Return when `ready()`; raises SetupError if the process ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.exit_code is not None:
                raise SetupError(self._failure(f"ended with exit code {self.exit_code}"))
            if time.monotonic() > deadline:
                raise SetupError(self._failure(f"was not ready after {seconds:g} s"))
            time.sleep(POLL_SECONDS)

    def wait(self, *, seconds: float) -> int:
        """Wait for the end of the process, and return its exit code."""
        try:
            return self._started().wait(seconds)
        except subprocess.TimeoutExpired:
            raise SetupError(self._failure(f"still runs after {seconds:g} s")) from None

    def send(self, number: int) -> None:
        """Send a signal to the process, not to its group."""
        self._started().send_signal(number)

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = 10) -> None:
        """Send a signal, then kill what is left of the group; can be repeated."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise SetupError(f"{self.name} was not started")
        return self._process

    def _failure(self, what: str) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return f"{self.name} {what}; the last line of its log: {last}\n  log: {self.log}"
