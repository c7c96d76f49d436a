"""A process that the testbed starts has a clean start, and ends with its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from testbed.daemon import Daemon

WAITS = "from localnode import commands; commands.run(['sh', '-c', 'echo $$ > {}; exec sleep 60'])"


def test_a_daemon_receives_the_signals_that_a_background_shell_ignores(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    daemon = Daemon("sleep", ["sleep", "60"], log=tmp_path / "log")
    try:
        daemon.start()
    finally:
        signal.signal(signal.SIGINT, before)
    eventually(lambda: name_of(daemon.pid) == "sleep")
    os.kill(daemon.pid, signal.SIGINT)
    assert daemon.wait(seconds=5) == -signal.SIGINT


def test_a_command_ends_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    waiting = subprocess.Popen([sys.executable, "-c", WAITS.format(file)])
    eventually(lambda: file.exists() and file.read_text().endswith("\n"))
    command = int(file.read_text())
    waiting.kill()
    waiting.wait()
    eventually(lambda: name_of(command) != "sleep")


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def name_of(pid: int) -> str:
    """Of a process that runs; "" of one that has ended, be it collected or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return ""
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return "" if rest.split()[0] == "Z" else name
