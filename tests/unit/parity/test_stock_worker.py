"""The stock worker's rendering in another interpreter, and its errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.corpus.case import Case
from workpool_operator.parity.stock import StockWorkerMissing, stock_worker


def error_of(python: str | Path) -> str:
    with pytest.raises(StockWorkerMissing) as missing, stock_worker(python) as worker:
        worker.render(Case("any").document)
    return str(missing.value)


def test_an_interpreter_without_prefect_kubernetes_gives_an_error_with_the_fix() -> None:
    message = error_of(sys.executable)
    assert "prefect-kubernetes is not installed" in message
    assert "pip install prefect-kubernetes" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "/nowhere/python",
            "/nowhere/python: No such file or directory; name a Python interpreter",
        ),
        ("/bin/true", "/bin/true ended without output"),
    ],
)
def test_a_missing_interpreter_is_named(program: str, message: str) -> None:
    assert error_of(program) == message


def test_the_process_gets_none_of_the_callers_prefect_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, interpreter: Callable[[str], Path]
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "of the caller")
    monkeypatch.setenv("PREFECT_API_URL", "of the caller")
    seen = tmp_path / "environment"
    with stock_worker(interpreter(f"env > {seen}"), environment={"PREFECT_API_URL": "http://x"}):
        pass
    found = [line for line in seen.read_text().splitlines() if line.startswith("PREFECT_")]
    assert {line.partition("=")[0] for line in found} == {"PREFECT_API_URL", "PREFECT_HOME"}
    assert "PREFECT_API_URL=http://x" in found


def test_the_process_and_its_folder_are_removed(
    tmp_path: Path, interpreter: Callable[[str], Path]
) -> None:
    home = tmp_path / "home"
    with stock_worker(interpreter(f"echo $PREFECT_HOME > {home}; cat > /dev/null")):
        pass
    assert not Path(home.read_text().strip()).exists()


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes an interpreter which runs a line of shell instead."""

    def script(line: str) -> Path:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        return program

    return script
