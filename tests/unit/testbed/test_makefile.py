"""`make check` runs every check, and fails if one of them does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from testbed.state import CHECKOUT

PROGRAMS = ("pytest", "mypy", "lint-imports", "python", "mkdocs", "ruff")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Programs that print their name and succeed."""
    for name in PROGRAMS:
        install(tmp_path, name, "echo this is $(basename $0)")
    return tmp_path


def install(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def check(programs: Path) -> subprocess.CompletedProcess[str]:
    # Not as a part of the `make check` that may run this test.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", "check", "PYTHON=true", f"programs={programs}"],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_every_check_runs(programs: Path) -> None:
    done = check(programs)
    assert done.returncode == 0, done.stdout
    for name in PROGRAMS:
        assert f"this is {name}" in done.stdout


def test_a_failed_check_shows_all_its_output_and_does_not_stop_the_others(programs: Path) -> None:
    install(programs, "pytest", "echo out; echo err >&2; exit 1")
    done = check(programs)
    assert done.returncode != 0
    assert "out\nerr\n" in done.stdout
    for name in set(PROGRAMS) - {"pytest"}:
        assert f"this is {name}" in done.stdout
