"""Starts processes of the program without its imports: each is forked from one that has them.

Each process has its own arguments, environment and output, and the kernel ends it when the test
process ends. The imports take two seconds of CPU time and nearly every test starts an operator:
only tests of the start itself run the program without a fork.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from localnode.errors import SetupError
from testbed.state import CHECKOUT
from tests.support import marks

PR_SET_PDEATHSIG = 1
_context = multiprocessing.get_context("forkserver")


@dataclass
class Preloaded:
    """`workpool-operator ARGUMENTS`, with the interface of a `testbed.daemon.Daemon`."""

    arguments: Sequence[str]
    log: Path
    env: Mapping[str, str]
    #: Standard error, unless it goes to the log.
    errors: Path | None = None
    stdin: Path = Path(os.devnull)
    _process: ForkServerProcess | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        pid = self._started().pid
        assert pid is not None
        return pid

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while the process runs, minus the signal's number after a signal."""
        return self._process.exitcode if self._process else None

    def start(self) -> None:
        self.log.touch()
        _start_server()
        process = _context.Process(
            target=_run,
            args=(list(self.arguments), self.stdin, self.log, self.errors, dict(self.env)),
        )
        process.start()
        self._process = process

    def wait(self, *, seconds: float) -> int:
        """Return the exit code of a process that is expected to end."""
        process = self._started()
        process.join(seconds)
        if process.exitcode is None:
            raise SetupError(f"{self.arguments} still runs after {seconds:g} s; log: {self.log}")
        return process.exitcode

    def send(self, number: int) -> None:
        """Send a signal to the process, not to its group."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = 10) -> None:
        """Send the signal, then kill what is left of the process group. Idempotent."""
        if self._process is None:
            return
        self.send(number)
        self._process.join(seconds)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()

    def _started(self) -> ForkServerProcess:
        if self._process is None:
            raise SetupError(f"{self.arguments} was not started")
        return self._process


def _start_server() -> None:
    """Start the process that imports the program, if it is not running. All tests of this process
    share it, so that it has neither a test's mark nor settings of Prefect."""
    from multiprocessing.forkserver import _forkserver

    inherited = dict(os.environ)
    _context.set_forkserver_preload(["tests.support.preload"])
    try:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT / "operator"), str(CHECKOUT)])
        with marks.removed():
            _forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(inherited)


def _run(
    arguments: list[str], stdin: Path, log: Path, errors: Path | None, env: dict[str, str]
) -> None:
    """Run the program: the body of each process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    os.dup2(os.open(stdin, os.O_RDONLY), 0)
    os.dup2(os.open(log, append), 1)
    os.dup2(1 if errors is None else os.open(errors, append), 2)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as the interpreter opens it
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["workpool-operator", *arguments]
    from workpool_operator.cli import app

    try:
        app()
    finally:
        atexit._run_exitfuncs()
