from __future__ import annotations

from pathlib import Path

import pytest

from localnode import builds
from localnode.errors import SetupError

VERSIONS = builds.kubernetes_versions()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_program_is_a_tool_or_a_main_of_the_module(version: str) -> None:
    node = builds.node(version)
    lines = node.version_files[0].read_text().split("tool ", 1)[1].split("require", 1)[0]
    tools = [line for line in lines.splitlines() if "/" in line]
    assert len(tools) + len(node.mains) == len(node.programs)
    assert all((node.folder / main / "main.go").exists() for main in node.mains)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_is_stamped_with_the_version_that_the_module_requires(version: str) -> None:
    node = builds.node(version)
    exact = node.ldflags.rpartition("=")[2]
    assert exact.startswith(f"v{version}.")
    assert f"\tk8s.io/kubernetes {exact}" in node.version_files[0].read_text()


def test_an_unknown_version_of_kubernetes_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SetupError, match=r"has Kubernetes '1.20': use .*1\.36"):
        builds.node("1.20")


def test_a_module_that_is_not_required_has_no_version() -> None:
    with pytest.raises(SetupError, match=r"does not require k8s.io/minikube"):
        builds.required_version("k8s.io/minikube", builds.FOLDER / "go.mod")


def test_a_go_that_is_too_old_is_recognised(tmp_path: Path) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    assert builds._release(str(old)) < builds.OLDEST_GO
