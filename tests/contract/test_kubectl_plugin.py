"""The program as a plugin of kubectl, by the name of its file."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from testbed.clusters import Cluster
from testbed.state import CHECKOUT

SCRIPTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.fixture
def kubectl(cluster: Cluster, tmp_path: Path):
    """`kubectl("workpool", "crd")` returns the output; the scripts of the package are in PATH."""
    for name, entry in SCRIPTS.items():
        module, _, function = entry.partition(":")
        script = tmp_path / name
        script.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(CHECKOUT / "operator")}
    env |= {"KUBECONFIG": str(cluster.kubeconfig)}

    def run(*arguments: str) -> str:
        command = [str(cluster.kubectl.program), *arguments]
        return subprocess.run(command, env=env, text=True, capture_output=True, check=True).stdout

    return run


async def test_kubectl_runs_it_as_workpool_and_help_shows_what_the_user_types(
    kubectl, crd, namespace
):
    assert "Usage: kubectl workpool status" in kubectl("workpool", "status", "--help")
    assert "kind: CustomResourceDefinition" in kubectl("workpool", "crd")
    found = kubectl("workpool", "status", "-n", namespace, "-o", "json")
    assert '"bindings": []' in found


def test_kubectl_completes_its_commands_and_options(kubectl):
    assert kubectl("__complete", "workpool", "stat").splitlines() == ["status", ":4"]
    options = kubectl("__complete", "workpool", "doctor", "--as").splitlines()
    assert options == ["--as", ":4"]
