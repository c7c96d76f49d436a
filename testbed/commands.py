"""Runs the programs that the testbed is made with; a failure names the command and what it said.

What is waited for ends with whoever waits, even by kill -9.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from testbed.errors import TestbedError

Argv = Sequence[str | Path]

_DIES_WITH_US = (shutil.which("setpriv") or "setpriv", "--pdeathsig", "KILL", "--")


def run(argv: Argv, *, stdin: str | IO[bytes] | None = None) -> str:
    """What the command prints, or a TestbedError with the last line of its complaint."""
    done = _start(argv, stdin=stdin)
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip()).splitlines()
        said = complaint[-1] if complaint else f"exit code {done.returncode}"
        raise TestbedError(f"{' '.join(map(str, argv[:6]))} failed: {said}")
    return done.stdout


def succeeds(argv: Argv, *, stdin: str | None = None) -> bool:
    """Whether the command ends well; what it prints is dropped."""
    return _start(argv, stdin=stdin).returncode == 0


def succeeds_if_installed(argv: Argv) -> bool:
    """The same for a program that need not be installed."""
    return shutil.which(argv[0]) is not None and succeeds(argv)


def run_logged(
    argv: Argv,
    *,
    log: Path,
    within: Argv = (),
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Runs a long command whose output goes to `log`; the error names the log.

    `within` is a command that runs another one, such as setpriv; errors do not speak of it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        done = subprocess.run(
            [*within, *argv],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    if done.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        last = said[-1] if said else f"exit code {done.returncode}"
        raise TestbedError(f"{' '.join(map(str, argv[:4]))} failed: {last}\n  log: {log}")


def _start(argv: Argv, *, stdin: str | IO[bytes] | None = None) -> subprocess.CompletedProcess[str]:
    source: Mapping[str, Any] = {"stdin": stdin or subprocess.DEVNULL}
    if isinstance(stdin, str):
        source = {"input": stdin}
    if shutil.which(argv[0]) is None:
        raise TestbedError(f"{argv[0]} is not installed: run 'make bootstrap'")
    return subprocess.run([*_DIES_WITH_US, *argv], **source, capture_output=True, text=True)
