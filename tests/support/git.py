"""A git repository that pods can clone: one commit of the given files, served by git's daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.daemon import Daemon
from testbed.postgres import free_port

_AUTHOR = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
_NO_CONFIGURATION = os.environ | {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


@contextmanager
def served_repository(*files: Path, folder: Path, host: str) -> Iterator[str]:
    """Serve a repository with the files at its root, and yield its address. `folder` must be empty;
    the daemon listens on `host` only."""
    repository = folder / "flows"
    repository.mkdir(parents=True)
    for file in files:
        shutil.copy(file, repository)
    _git("init", "--quiet", "--initial-branch=main", within=repository)
    _git("add", ".", within=repository)
    _git(*_AUTHOR, "commit", "--quiet", "--message=flows", within=repository)
    port = free_port(host)
    daemon = Daemon(
        "git daemon",
        [_program(), "--export-all", f"--base-path={folder}", f"--listen={host}", f"--port={port}"],
        log=folder / "daemon.log",
        env=_NO_CONFIGURATION,
    )
    address = f"git://{host}:{port}/flows"
    daemon.start()
    try:
        daemon.wait_until(lambda: _answers(address), seconds=20)
        yield address
    finally:
        daemon.stop()


def _git(*arguments: str, within: Path) -> None:
    subprocess.run(["git", *arguments], cwd=within, env=_NO_CONFIGURATION, check=True)


def _program() -> str:
    """Return the path of the daemon itself; `git daemon` would start it as a second process."""
    folder = subprocess.check_output(["git", "--exec-path"], text=True).strip()
    return f"{folder}/git-daemon"


def _answers(address: str) -> bool:
    asked = subprocess.run(
        ["git", "ls-remote", "--quiet", address],
        capture_output=True,
        env=_NO_CONFIGURATION,
        check=False,
    )
    return asked.returncode == 0
