"""The commands as a person runs them: the console script, in a process with nothing of ours."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from tests.support.operator import PROGRAM
from workpool_operator.cli import app


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The result, which has to be all of standard output."""
        assert self.code == 0, self.err
        return yaml.safe_load(self.out)

    @property
    def everything(self) -> str:
        return self.out + self.err

    @property
    def error(self) -> str:
        """The one line that a failure is."""
        [line] = [line for line in self.err.splitlines() if not line.startswith("note:")]
        assert self.code == 1
        return line


@dataclass(frozen=True)
class Command:
    """`run("render", "--template", path)`; `env` is all of the environment but PATH and HOME."""

    home: Path
    env: Mapping[str, str]

    def run(self, *arguments: str | Path, stdin: str = "", **env: str) -> Said:
        done = subprocess.run(
            [PROGRAM, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home)} | dict(self.env) | env,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def here(self, *arguments: str | Path, stdin: str = "") -> Said:
        """The same in the test's own process, which has imported everything already."""
        done = CliRunner().invoke(app, [*map(str, arguments)], input=stdin, env=dict(self.env))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return Said(done.exit_code, done.stdout, done.stderr)

    async def __call__(self, *arguments: str | Path, **options: Any) -> Said:
        """The same, beside what else the test does."""
        return await asyncio.to_thread(self.run, *arguments, **options)

    def write(self, name: str, document: Any) -> Path:
        """A file of the document, as a user has it."""
        path = self.home / name
        text = json.dumps(document) if name.endswith(".json") else yaml.safe_dump(document)
        path.write_text(text)
        return path
