"""The checkout's virtual environments, installed from its locks.

They hold what the lock names, by hash. An environment whose lock did not change is left alone; an
interrupted installation is continued. Runs on the standard library alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from localnode import cache, commands, progress
from testbed import state
from testbed.state import CHECKOUT


@dataclass(frozen=True)
class Environment:
    folder: Path
    lock: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.folder / "made-from"

    @property
    def origin(self) -> str:
        """Changes with everything that the environment is made from: its place, Python and lock."""
        files = [self.lock, CHECKOUT / "pyproject.toml"]
        return f"{self._home} {cache.key(file.read_bytes() for file in files)}"

    def is_current(self) -> bool:
        return self._made_from() == self.origin

    def can_be_updated(self) -> bool:
        """Return whether it is complete, and of this Python and this checkout."""
        return self._made_from().split(" ")[0] == self._home

    @property
    def _home(self) -> str:
        return cache.key([sys.version, str(self.folder)])

    def _made_from(self) -> str:
        return self.stamp.read_text() if self.stamp.exists() else "nothing"


DEVELOPMENT = Environment(CHECKOUT / ".venv", CHECKOUT / "requirements-dev.lock")
PEER = Environment(CHECKOUT / ".venv-peer", CHECKOUT / "requirements-peer.lock")


def make(environment: Environment) -> None:
    with progress.step(f"installing {environment.lock.name} into {environment.folder.name}"):
        can_be_updated = environment.can_be_updated()
        environment.stamp.unlink(missing_ok=True)  # an interruption leaves nothing to trust
        if not can_be_updated:
            _create(environment)
        # Compiled once: where Python cannot write bytecode, each start takes 4 s more CPU time.
        locked = ("--require-hashes", "--compile-bytecode", str(environment.lock))
        uv("sync", *locked, environment=environment)
        if environment == DEVELOPMENT:
            # An editable has no hash; its build needs hatchling, which the lock brings.
            uv("install", "--no-deps", "--no-build-isolation", "--editable", ".")
        environment.stamp.write_text(environment.origin)


def uv(*arguments: str, environment: Environment = DEVELOPMENT) -> None:
    """Run `uv pip` on the environment."""
    commands.run_logged(
        [DEVELOPMENT.folder / "bin" / "uv", "pip", *arguments],
        log=state.cache().log(f"uv-{environment.folder.name.lstrip('.')}"),
        cwd=CHECKOUT,
        # The machine's certificates, as a proxy may end TLS.
        env=os.environ | {"VIRTUAL_ENV": str(environment.folder), "UV_SYSTEM_CERTS": "true"},
    )


def requirement(name: str, lock: str) -> str:
    """Return the lines of one requirement and its hashes."""
    lines = lock.splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith(f"{name}=="))
    end = begin + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    return "\n".join(lines[begin:end]) + "\n"


def _create(environment: Environment) -> None:
    has_tools = environment == DEVELOPMENT
    venv.EnvBuilder(clear=True, symlinks=True, with_pip=has_tools).create(environment.folder)
    if has_tools:
        _install_uv()


def _install_uv() -> None:
    """Install the uv that the lock names: it does in seconds what takes pip a minute."""
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as only_uv:
        only_uv.write(requirement("uv", DEVELOPMENT.lock.read_text()))
        only_uv.flush()
        pip = (DEVELOPMENT.python, "-m", "pip", "install", "--disable-pip-version-check")
        commands.run_logged(
            [*pip, "--require-hashes", "--requirement", only_uv.name],
            log=state.cache().log("pip"),
        )
