"""Runs our commands as a user does, in a process with an environment of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from typer.testing import CliRunner

from tests.support.operator import PROGRAM
from tests.support.preloaded import Preloaded
from workpool_operator.cli import app

TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class CommandResult:
    """The output of a command and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, parsed; the command must have succeeded."""
        assert self.code == 0, self.err
        return yaml.safe_load(self.out)

    @property
    def everything(self) -> str:
        return self.out + self.err

    @property
    def error(self) -> str:
        """The one line of a failure, without notes."""
        [line] = [line for line in self.err.splitlines() if not line.startswith("note:")]
        assert self.code == 1
        return line


@dataclass(frozen=True)
class Command:
    """`run("render", "--template", path)`; `env` is the environment, except PATH and HOME."""

    home: Path
    env: Mapping[str, str]

    def run(self, *arguments: str | Path, stdin: str = "", **env: str) -> CommandResult:
        """Run it in a process.

        The process is preloaded, unless it has settings of Prefect, which reads them at import.
        """
        words = [*map(str, arguments)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home)} | dict(self.env) | env
        preloaded = not any(name.startswith("PREFECT_") for name in environment)
        result = (self._fork if preloaded else self._start)(words, stdin, environment)
        assert "Traceback" not in result.err, result.err
        return result

    def _start(self, arguments: list[str], stdin: str, env: dict[str, str]) -> CommandResult:
        done = subprocess.run(
            [PROGRAM, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env=env,
            check=False,
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def _fork(self, arguments: list[str], stdin: str, env: dict[str, str]) -> CommandResult:
        with TemporaryDirectory() as folder:
            given, out, err = (Path(folder, name) for name in ("in", "out", "err"))
            given.write_text(stdin)
            process = Preloaded(arguments, log=out, errors=err, stdin=given, env=env)
            process.start()
            try:
                code = process.wait(seconds=TIMEOUT_SECONDS)
            finally:
                process.stop(number=signal.SIGKILL)
            return CommandResult(code, out.read_text(), err.read_text())

    def here(self, *arguments: str | Path, stdin: str = "") -> CommandResult:
        """Run it in the test's own process, which has imported everything already."""
        done = CliRunner().invoke(app, [*map(str, arguments)], input=stdin, env=dict(self.env))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return CommandResult(done.exit_code, done.stdout, done.stderr)

    async def __call__(self, *arguments: str | Path, **options: Any) -> CommandResult:
        """Run it in a thread."""
        return await asyncio.to_thread(self.run, *arguments, **options)

    def write(self, name: str, document: Any) -> Path:
        """Write the document to a file; return its path."""
        path = self.home / name
        text = json.dumps(document) if name.endswith(".json") else yaml.safe_dump(document)
        path.write_text(text)
        return path
