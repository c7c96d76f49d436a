"""A private PostgreSQL for as long as its context lasts: no password, no fsync, loopback only.

Prefect's other store, SQLite, answers 503 "database is locked" from about eight parallel writers.
pytest-postgresql does not do it: it refuses root, and the server outlives one test process.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import socket
from pathlib import Path
from types import TracebackType

from localnode import commands
from localnode.errors import SetupError
from testbed.daemon import Daemon

START_SECONDS = 30
PORTS = range(10_000, 30_000)
USER = "postgres"
#: No data is needed after a crash, so no write waits for the disk.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "dynamic_shared_memory_type": "mmap",  # SIGKILL leaves nothing in /dev/shm
    "max_connections": "200",
}


class Postgres:
    """`with Postgres(folder) as database: database.url`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port("127.0.0.1")
        self.url = f"postgresql+asyncpg://{USER}@127.0.0.1:{self.port}/{USER}"
        settings = [f"--{name}={value}" for name, value in FAST.items()]
        self._daemon = Daemon(
            "PostgreSQL",
            [
                *(program("postgres"), "-D", str(folder / "data"), "-p", str(self.port)),
                *("-h", "127.0.0.1", "-k", "", *settings),
            ],
            log=folder / "postgres.log",
            # On QUIT the postmaster ends its children, too; KILL would leave them.
            privileges=[*_as_user(), "--pdeathsig", "QUIT"],
        )

    def __enter__(self) -> Postgres:
        self._create()
        self._daemon.start()
        try:
            self._daemon.wait_until(self._answers, seconds=START_SECONDS)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._daemon.stop(number=signal.SIGQUIT)
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    @property
    def log(self) -> Path:
        return self._daemon.log

    def _create(self) -> None:
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(data, USER, USER)
        initdb = [program("initdb"), "-D", str(data), "-U", USER, "--auth=trust"]
        commands.run_logged(
            ["setpriv", *_as_user(), "--", *initdb, "--no-sync", "--no-locale", "-E", "UTF8"],
            log=self.folder / "initdb.log",
        )

    def _answers(self) -> bool:
        return commands.succeeds(
            [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        )


def program(name: str) -> str:
    """Return the path of PostgreSQL's program, of the newest version that is installed."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4])
    )
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        raise SetupError(f"PostgreSQL's {name} is missing: run 'apt-get install postgresql'")
    return found


def free_port(host: str) -> int:
    """Return a port of the address that is free now, and not one of those that the kernel gives to
    outgoing connections: one of them might take it first."""
    for port in random.sample(PORTS, k=100):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise SetupError(f"{host} is not an address of this machine: {error}") from error
            return port
    raise SetupError(f"{host}: no port of {PORTS.start} to {PORTS.stop - 1} is free")


def _as_user() -> list[str]:
    """As root: PostgreSQL refuses to run so; the capability lets it enter root's home folder."""
    if os.geteuid() != 0:
        return []
    capability = "+dac_read_search"
    return [
        *("--reuid", USER, "--regid", USER, "--clear-groups"),
        *("--inh-caps", capability, "--ambient-caps", capability),
    ]
