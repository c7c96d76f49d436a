"""The checkout's virtual environments, installed from its locks.

One is for development, one has the stock worker, and each supported minor version of Prefect has
one, in which tests run with that client and that server. They hold what the lock names, by hash. An
environment whose lock did not change is left alone; an interrupted installation is continued. Runs
on the standard library alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from localnode import cache, commands, progress
from localnode.errors import SetupError
from testbed import state
from testbed.state import CHECKOUT


@dataclass(frozen=True)
class Environment:
    folder: Path
    lock: Path
    has_package: bool = True  # the checkout's own, editable

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
PEER = Environment(CHECKOUT / ".venv-peer", CHECKOUT / "requirements-peer.lock", has_package=False)
#: The locks of the other supported versions of Prefect.
PREFECT_LOCKS = CHECKOUT / "testbed" / "locks"


def with_prefect(version: str) -> Environment:
    """Return the environment with a minor version of Prefect, such as "3.6"."""
    if version == minor(locked_prefect(DEVELOPMENT)):
        return DEVELOPMENT
    lock = PREFECT_LOCKS / f"prefect-{version}.lock"
    if not lock.exists():
        known = ", ".join(prefect_versions())
        raise SetupError(f"PREFECT={version!r} has no lock in {PREFECT_LOCKS}: use {known}")
    return Environment(CHECKOUT / f".venv-prefect-{version}", lock)


def prefect_versions() -> list[str]:
    """Return the minor versions of Prefect that have a lock, the oldest first."""
    others = (lock.stem.removeprefix("prefect-") for lock in PREFECT_LOCKS.glob("*.lock"))
    known = [*others, minor(locked_prefect(DEVELOPMENT))]
    return sorted(known, key=lambda version: tuple(map(int, version.split("."))))


def locked_prefect(environment: Environment) -> str:
    """Return the exact version of Prefect that the environment's lock names."""
    line = requirement("prefect", environment.lock.read_text()).split()[0]
    return line.removeprefix("prefect==")


def minor(version: str) -> str:
    """Return "3.8" of "3.8.8"."""
    return ".".join(version.split(".")[:2])


def make(environment: Environment) -> None:
    with progress.step(f"installing {environment.lock.name} into {environment.folder.name}"):
        can_be_updated = environment.can_be_updated()
        environment.stamp.unlink(missing_ok=True)  # an interruption leaves nothing to trust
        if not can_be_updated:
            _create(environment)
        # Compiled once: where Python cannot write bytecode, each start takes 4 s more CPU time.
        locked = ("--require-hashes", "--compile-bytecode", str(environment.lock))
        uv("sync", *locked, environment=environment)
        if environment.has_package:
            # An editable has no hash; its build needs hatchling, which the lock brings.
            editable = ("--no-deps", "--no-build-isolation", "--editable", ".")
            uv("install", *editable, environment=environment)
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
