"""How the demo ends the operator that it left on the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.demo import host_operator

DEAF = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
OBEDIENT = "echo ready; exec sleep 60"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_operator, "ENDS_WITHIN_SECONDS", 1)


@pytest.fixture(params=[OBEDIENT, DEAF], ids=["obedient", "deaf to SIGTERM"])
def left_over(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the mark of the state folder `tmp_path`."""
    marked = os.environ | {host_operator.MARK: str(tmp_path)}
    script = ["sh", "-c", request.param]
    with subprocess.Popen(script, env=marked, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_stop_ends_the_operator_of_the_state_folder(
    left_over: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    host_operator.stop(tmp_path)
    assert left_over.wait(1) < 0


def test_stop_spares_the_operator_of_another_state_folder(
    left_over: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    host_operator.stop(tmp_path / "another")
    assert left_over.poll() is None


def test_stop_without_an_operator_does_nothing(tmp_path: Path) -> None:
    host_operator.stop(tmp_path)
