"""A real `prefect server` on a private PostgreSQL, for as long as its context lasts.

It answers when the context is entered. Only its logs are left afterwards, and no process of it even
if the one that entered was killed. It ignores the settings of the user's own Prefect. It has the
version of the interpreter that starts it, or the one that PREFECT names, such as 3.6.

`python -m testbed.prefect_server FOLDER --owner PID` serves several processes until PID ends: it
writes the address to FOLDER/url as soon as the server answers.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from localnode.errors import SetupError
from testbed import environments
from testbed.daemon import Daemon
from testbed.postgres import Postgres, free_port

START_SECONDS = 120
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "true",
    "PREFECT_CLI_COLORS": "false",
    "DO_NOT_TRACK": "1",
}


class PrefectServer:
    """`with PrefectServer(folder) as server: server.url`."""

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        auth_string: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`host` is bound and named in `url`; `settings` are PREFECT_* variables of the server."""
        self.folder = folder
        self.host = host
        self.auth_string = auth_string
        self.settings = dict(settings or {})
        self.port = free_port(host)
        self.url = f"http://{host}:{self.port}/api"
        self._home = folder / "home"
        self.log = folder / "prefect-server.log"
        self.database = Postgres(folder)
        self._parts = ExitStack()
        self.pid = 0

    def __enter__(self) -> PrefectServer:
        with ExitStack() as parts:
            parts.callback(shutil.rmtree, self._home, ignore_errors=True)
            database = parts.enter_context(self.database)
            server = self._daemon(database.url)
            server.start()
            self.pid = server.pid
            # Its data are removed, so a graceful end would save nothing.
            parts.callback(server.stop, number=signal.SIGKILL)
            server.wait_until(self._answers, seconds=START_SECONDS)
            self._parts = parts.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._parts.close()

    def _daemon(self, database_url: str) -> Daemon:
        version = os.environ.get("PREFECT")
        python = environments.with_prefect(version).python if version else sys.executable
        command = [str(python), "-m", "prefect", "server", "start"]
        return Daemon(
            "prefect server",
            [*command, "--host", self.host, "--port", str(self.port)],
            log=self.log,
            env=self._environment(database_url),
        )

    def _environment(self, database_url: str) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
        }
        access = {"PREFECT_SERVER_API_AUTH_STRING": self.auth_string} if self.auth_string else {}
        own = {
            "PREFECT_HOME": str(self._home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url,
        }
        return inherited | SETTINGS | own | access | self.settings

    def _answers(self) -> bool:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def main() -> None:
    """Serve until the owner ends, or until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m testbed.prefect_server")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--owner", type=int, required=True, help="end when this pid ends")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--auth-string", help="USER:PASSWORD that clients need")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        owner = os.pidfd_open(options.owner)
        auth = options.auth_string
        with PrefectServer(options.folder, host=options.host, auth_string=auth) as server:
            _announce(options.folder / "url", server.url)
            select.select([owner], [], [])
    except SetupError as error:
        sys.exit(str(error))


def _announce(path: Path, url: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(url)
    aside.rename(path)


if __name__ == "__main__":
    main()
