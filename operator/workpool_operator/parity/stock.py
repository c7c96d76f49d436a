"""The stock worker's rendering, by `stock_worker.py` in a process of another interpreter.

Promises: one process for as many renders as are asked; it ends with the context; it has none of the
caller's Prefect settings and keeps its files in a folder that is removed with it.
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
# Prefect's own default profile has a setting, which the stock worker would hand on.
PROFILE = 'active = "stock-worker"\n[profiles.stock-worker]\n'

Document = Mapping[str, Any]


class StockWorkerMissing(OperatorError):
    """The interpreter cannot render as the stock worker does; the text says what it lacks."""


@dataclass(frozen=True, slots=True)
class StockJob:
    """The stock worker's manifest, and the processor time that it took."""

    manifest: dict[str, Any]
    cpu_seconds: float


class StockWorker:
    """A running `stock_worker.py`; its answers come in the order of the questions."""

    def __init__(self, python: str | Path, process: subprocess.Popen[str], log: IO[str]) -> None:
        self._python = python
        self._process = process
        self._log = log

    def render(self, document: Document) -> StockJob:
        """The Job of `{run, flow, deployment, pool, worker_name, environment}`.

        Raises:
            RenderError: the stock worker would crash the run with this text.
            StockWorkerMissing: the process is not there, or not any more.
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
        said = self._log.read().strip().splitlines() or [f"{self._python} ended without a word"]
        return StockWorkerMissing(said[-1])


@contextmanager
def stock_worker(
    python: str | Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[StockWorker]:
    """`environment` names the server of blocks and variables: PREFECT_API_URL and what opens it.

    Raises:
        StockWorkerMissing: there is no such interpreter.
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
