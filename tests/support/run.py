"""One run of the tests: what its processes (one per `-n`) share and create only once.

The first test that needs a shared part creates it, while others wait; if that fails, they fail with
the same error. The process that began the run ends the shared parts; its Prefect server ends with
that process even if it is killed. A cluster that was up before stays up.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localnode.errors import SetupError
from localnode.lock import exclusive
from testbed import clusters, state
from testbed.daemon import Daemon
from testbed.prefect_server import START_SECONDS
from tests.support import marks

VARIABLE = "WORKPOOL_OPERATOR_TEST_RUN"
SERVER = "prefect-server"
GUARDED_SERVER = "guarded-prefect-server"
PR_SET_PDEATHSIG = 1
_detached: list[Daemon] = []  # a Popen that is garbage-collected while its process runs warns


@dataclass(frozen=True)
class TestRun:
    folder: Path
    owner: int

    __test__ = False  # otherwise pytest collects it because of its name

    @classmethod
    def begin(cls) -> TestRun:
        """Begin a run, which this process ends; its children find it in their environment."""
        runs = state.root() / "tests"
        for killed in runs.glob("*-*"):  # runs whose process was killed
            if not Path("/proc", killed.name.partition("-")[0]).exists():
                shutil.rmtree(killed, ignore_errors=True)  # another run may be at it, too
        run = cls(runs / f"{os.getpid()}-{uuid.uuid4().hex[:8]}", os.getpid())
        run.folder.mkdir(parents=True)
        os.environ[VARIABLE] = str(run.folder)
        return run

    @classmethod
    def current(cls) -> TestRun:
        folder = Path(os.environ[VARIABLE])
        return cls(folder, owner=int(folder.name.partition("-")[0]))

    @property
    def id(self) -> str:
        return self.folder.name

    def end(self) -> None:
        """End the shared parts, and remove the run's folder."""
        for name in (SERVER, GUARDED_SERVER):
            if server := self.made(name):
                _end(server["pid"])
        if (cluster := self.made("cluster")) and not cluster["was_up"]:
            clusters.select(os.environ).cluster.down()
        shutil.rmtree(self.folder)
        del os.environ[VARIABLE]

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the result of `make()`, which only the first process of the run calls."""
        result = self.folder / f"{name}.json"
        with exclusive(self.folder / f"{name}.lock", purpose=f"makes the {name}"):
            if not result.exists():
                with marks.removed():
                    result.write_text(json.dumps(_outcome(make)))
        made = json.loads(result.read_text())
        if "error" in made:
            raise SetupError(made["error"])
        return dict(made)

    def made(self, name: str) -> dict[str, Any] | None:
        """Return the result of `once` for that name; None if there is none."""
        result = self.folder / f"{name}.json"
        made = json.loads(result.read_text()) if result.exists() else {"error": "not created"}
        return None if "error" in made else dict(made)

    def cluster(self) -> clusters.Cluster:
        """Return the checkout's cluster, and start it if it is not up."""
        cluster = clusters.select(os.environ).cluster

        def up() -> dict[str, Any]:
            was_up = cluster.is_up()
            cluster.up()
            return {"was_up": was_up}

        self.once("cluster", up)
        return cluster

    def prefect_server(self, *, host: str) -> str:
        """Return the URL of the run's Prefect server."""
        return self._server(SERVER, "--host", host)

    def guarded_prefect_server(self, auth_string: str, *, host: str) -> str:
        """Return the URL of another Prefect server, which requires credentials."""
        return self._server(GUARDED_SERVER, "--host", host, "--auth-string", auth_string)

    def _server(self, name: str, *options: str) -> str:
        return str(self.once(name, lambda: self._serve_prefect(name, options))["url"])

    def _serve_prefect(self, name: str, options: tuple[str, ...]) -> dict[str, Any]:
        folder = self.folder / name
        command = [sys.executable, "-m", "testbed.prefect_server", str(folder)]
        server = Daemon(
            f"the tests' {name}",
            [*command, "--owner", str(self.owner), *options],
            log=folder / "supervisor.log",
            privileges=(),  # it outlives the test process that starts it
        )
        server.start()
        _detached.append(server)
        server.wait_until((folder / "url").exists, seconds=START_SECONDS)
        return {"url": (folder / "url").read_text(), "pid": server.pid}


def die_with_parent() -> None:
    """Have the kernel end this worker of pytest-xdist, and so its operators, with the main
    process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _outcome(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return make()
    except SetupError as error:
        return {"error": str(error)}


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        ended = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        select.select([ended], [], [], 10)
        os.close(ended)
