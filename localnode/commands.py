"""Runs programs and turns their failures into a SetupError with the command and its output.

A program ends with the process that waits for it, even if that one is killed with SIGKILL; a long
one does so only within DIE_WITH_PARENT, because apt-get must not end halfway.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from localnode.errors import SetupError

Argv = Sequence[str | Path]

DIE_WITH_PARENT = (shutil.which("setpriv") or "setpriv", "--pdeathsig", "KILL", "--")


def run(argv: Argv, *, stdin: str | IO[bytes] | None = None) -> str:
    """Return what the command prints; raises SetupError with the last line of its errors."""
    done = _start(argv, stdin=stdin)
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip()).splitlines()
        reason = output[-1] if output else f"exit code {done.returncode}"
        raise SetupError(f"{' '.join(map(str, argv[:6]))} failed: {reason}")
    return done.stdout


def succeeds(argv: Argv, *, stdin: str | None = None) -> bool:
    """Return whether the command succeeds; its output is dropped."""
    return _start(argv, stdin=stdin).returncode == 0


def succeeds_if_installed(argv: Argv) -> bool:
    """Return whether the program is installed and the command succeeds."""
    return shutil.which(argv[0]) is not None and succeeds(argv)


def run_logged(
    argv: Argv,
    *,
    log: Path,
    within: Argv = (),
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a long command whose output goes to `log`; raises SetupError with the path of the log.

    `within` is a command that runs another one, such as setpriv; errors do not mention it.
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
            check=False,
        )
    if done.returncode:
        output_lines = log.read_text(errors="replace").strip().splitlines()
        last = output_lines[-1] if output_lines else f"exit code {done.returncode}"
        raise SetupError(f"{' '.join(map(str, argv[:4]))} failed: {last}\n  log: {log}")


def _start(argv: Argv, *, stdin: str | IO[bytes] | None = None) -> subprocess.CompletedProcess[str]:
    source: Mapping[str, Any] = {"stdin": stdin or subprocess.DEVNULL}
    if isinstance(stdin, str):
        source = {"input": stdin}
    if shutil.which(argv[0]) is None:
        raise SetupError(f"{argv[0]} is not installed: install it, or add its folder to PATH")
    return subprocess.run(
        [*DIE_WITH_PARENT, *argv], **source, capture_output=True, text=True, check=False
    )
