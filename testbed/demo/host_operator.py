"""The operator as a process of this machine, which outlives the demo that started it.

Promises: at most one per state folder. It is found by a mark in its environment, not by a file that
a killed process could not have written.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from localnode.errors import SetupError
from testbed.daemon import Daemon

PROGRAM = Path(sys.executable).with_name("workpool-operator")
MARK = "WORKPOOL_OPERATOR_DEMO"
HEALTH_PORT = 8080
READY_WITHIN_SECONDS = 60
ENDS_WITHIN_SECONDS = 10


@dataclass(frozen=True)
class HostOperator:
    process: Daemon
    port: int

    @property
    def log(self) -> Path:
        return self.process.log

    def wait_until_ready(self) -> None:
        probe = f"http://127.0.0.1:{self.port}/readyz"
        self.process.wait_until(lambda: _answers(probe), seconds=READY_WITHIN_SECONDS)


def restart(kubeconfig: Path, folder: Path) -> HostOperator:
    """Ends an earlier one and starts another, so that the code runs as it is now."""
    stop(folder)
    port = _free_port()
    process = Daemon(
        "the operator",
        [str(PROGRAM), "run", f"--health-port={port}"],
        log=folder / "log" / "operator.log",
        env=_environment(kubeconfig, folder),
        privileges=("--pdeathsig", "clear"),
    )
    process.start()
    return HostOperator(process, port)


def stop(folder: Path) -> None:
    """Asks it to drain, then kills it. Can be repeated."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _pids(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if _gone(folder):
            return
    raise SetupError(f"process {_pids(folder)[0]}, the demo's operator, does not end")


def _gone(folder: Path) -> bool:
    deadline = time.monotonic() + ENDS_WITHIN_SECONDS
    while _pids(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _pids(folder: Path) -> list[int]:
    mark = f"{MARK}={folder}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # ended meanwhile, or another user's
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
    return found


def _environment(kubeconfig: Path, folder: Path) -> dict[str, str]:
    """Without the Prefect settings of the user, who may work with another server."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    home = str(folder / "prefect-home")
    return own | {"KUBECONFIG": str(kubeconfig), "PREFECT_HOME": home, MARK: str(folder)}


def _free_port() -> int:
    """The operator's usual port, or any other where that is taken."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", HEALTH_PORT))
        except OSError:
            trial.bind(("", 0))
            print(f"    port {HEALTH_PORT} is taken: the operator's probes get another one")
        port: int = trial.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1):
            return True
    except (URLError, OSError):
        return False
