"""Renders Jobs with the stock worker: runs `stock_worker.py` with another interpreter.

Promises: one process serves all renders and ends with the context. It gets none of the caller's
Prefect settings, and its files are in a temporary folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from workpool_operator.errors import OperatorError, RenderError

SCRIPT = Path(__file__).with_name("stock_worker.py")
# Prefect's default profile contains a setting, which the stock worker would pass on.
PROFILE = 'active = "stock-worker"\n[profiles.stock-worker]\n'

Document = Mapping[str, Any]


class StockWorkerMissing(OperatorError):
    """The interpreter cannot run the stock worker; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class StockJob:
    """The stock worker's manifest, and the CPU time of its rendering in seconds."""

    manifest: dict[str, Any]
    cpu_seconds: float


class StockWorker:
    """A running `stock_worker.py`, which answers requests in order."""

    def __init__(self, python: str | Path, process: subprocess.Popen[str], log: IO[str]) -> None:
        self._python = python
        self._process = process
        self._log = log

    def render(self, document: Document) -> StockJob:
        """Render the Job of `{run, flow, deployment, pool, worker_name, environment}`.

        Raises:
            RenderError: the stock worker would crash the run with this message.
            StockWorkerMissing: the process could not start, or it ended.
        """
        answer = self._ask(json.dumps(dict(document)))
        if "error" in answer:
            raise RenderError("", answer["error"])
        return StockJob(answer["manifest"], answer["cpu_seconds"])

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._missing() from None
        answer = self._process.stdout.readline()
        if not answer:
            raise self._missing()
        found: dict[str, Any] = json.loads(answer)
        return found

    def _missing(self) -> StockWorkerMissing:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines() or [f"{self._python} ended without output"]
        return StockWorkerMissing(lines[-1])


@contextmanager
def stock_worker(
    python: str | Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[StockWorker]:
    """Start the stock worker, and end it with the context.

    `environment` has the address and the credentials of the server that resolves blocks and
    variables.

    Raises:
        StockWorkerMissing: the interpreter does not exist.
    """
    with tempfile.TemporaryDirectory(prefix="stock-worker-") as folder:
        home = Path(folder)
        (home / "profiles.toml").write_text(PROFILE)
        env = _inherited() | {"PREFECT_HOME": folder} | dict(environment or {})
        with (home / "log").open("w+") as log, _started(python, log, env) as process:
            yield StockWorker(python, process, log)


@contextmanager
def _started(
    python: str | Path, log: IO[str], env: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    try:
        # -I keeps the folder of the script, our modules, out of its imports.
        process = subprocess.Popen(
            [str(python), "-I", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=env,
        )
    except OSError as error:
        raise StockWorkerMissing(f"{python}: {error.strerror}; name a Python interpreter") from None
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
