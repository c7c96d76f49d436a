"""The script of the demo, with programs that record how they are called, and the demo's end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from testbed import demo
from testbed.state import CHECKOUT

KUBECTL = """echo kubectl "$@" >> "$CALLS"
case "$*" in
  "create namespace"*) echo "{kind: Namespace, metadata: {name: data}}";;
  "apply -f -") echo --- >> "$APPLIED"; cat >> "$APPLIED";;
  *"get jobs"*) echo job.batch/hello;;
esac"""
IN_CLUSTER = "http://prefect-server.prefect.svc:4200/api"


class Script:
    """`demo.sh` on a PATH whose programs record how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        (folder / "log").mkdir()
        self.install("kubectl", KUBECTL)
        for name in ("prefect", "python", "workpool-operator"):
            self.install(name, f'echo {name} "$@" >> "$CALLS"')

    def install(self, name: str, script: str) -> None:
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "CALLS": str(self.folder / "calls"),
            "APPLIED": str(self.folder / "applied"),
            "FOLDER": str(self.folder),
            "KUBECONFIG": "/cluster/kubeconfig",
            "PREFECT_API_URL": "http://10.0.0.2:30000/api",
            "POD_API_URL": IN_CLUSTER,
            "RUN_IMAGE": "localhost/run:1",
        }
        return subprocess.run(
            [demo.SCRIPT], env=environment, capture_output=True, text=True, check=False
        )

    def calls(self) -> str:
        return (self.folder / "calls").read_text()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_the_script_runs_the_example_to_its_end(script: Script) -> None:
    done = script.run()
    assert done.returncode == 0, done.stderr
    assert "make down" in done.stdout
    calls = script.calls()
    eventually(lambda: "workpool-operator run --health-port=0" in script.calls())
    assert "prefect work-pool create demo --type kubernetes --overwrite" in calls
    assert "prefect deployment run hello/demo --watch" in calls
    assert "python -m testbed.timeline job.batch/hello" in calls


def test_the_script_applies_the_example_binding_but_for_the_addresses_of_the_server(
    script: Script,
) -> None:
    script.run()
    _, binding = (
        found for found in yaml.safe_load_all((script.folder / "applied").read_text()) if found
    )
    assert binding["spec"].pop("server") == {"url": "http://10.0.0.2:30000/api"}
    assert binding["spec"].pop("jobs") == {"serverURL": IN_CLUSTER}
    example = yaml.safe_load((CHECKOUT / "examples" / "binding.yaml").read_text())
    assert example["spec"].pop("server") == {"url": IN_CLUSTER}
    assert binding == example


def test_a_step_that_fails_ends_the_script_and_names_the_logs(script: Script) -> None:
    script.install("prefect", "exit 3")
    done = script.run()
    assert done.returncode != 0
    assert f"the operator logs to {script.folder}/log/operator.log" in done.stderr
    assert "deployment run" not in script.calls()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


DEAF = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
OBEDIENT = "echo ready; exec sleep 60"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "END_SECONDS", 1)


@pytest.fixture(params=[OBEDIENT, DEAF], ids=["obedient", "deaf to SIGTERM"])
def left_over(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the mark of the state folder `tmp_path`."""
    marked = os.environ | {demo.MARK: str(tmp_path)}
    script = ["sh", "-c", request.param]
    with subprocess.Popen(script, env=marked, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_stop_ends_the_operator_of_the_state_folder(
    left_over: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    demo.stop(tmp_path)
    assert left_over.wait(10) < 0


def test_stop_spares_the_operator_of_another_state_folder(
    left_over: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    demo.stop(tmp_path / "another")
    assert left_over.poll() is None


def test_stop_without_an_operator_does_nothing(tmp_path: Path) -> None:
    demo.stop(tmp_path)
