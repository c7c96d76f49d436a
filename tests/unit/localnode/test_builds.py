from __future__ import annotations

from pathlib import Path

import pytest

from localnode import builds
from localnode.errors import SetupError

NODE = builds.NODE


def test_every_program_is_a_tool_or_a_main_of_the_module() -> None:
    lines = (NODE.folder / "go.mod").read_text().split("tool ", 1)[1].split("require", 1)[0]
    tools = [line for line in lines.splitlines() if "/" in line]
    assert len(tools) + len(NODE.mains) == len(NODE.programs)
    assert all((NODE.folder / main / "main.go").exists() for main in NODE.mains)


def test_kubernetes_is_stamped_with_the_version_that_the_module_requires() -> None:
    required = (NODE.folder / "go.mod").read_text()
    version = NODE.ldflags.rpartition("=")[2]
    assert f"\tk8s.io/kubernetes {version}" in required


def test_a_module_that_is_not_required_has_no_version() -> None:
    with pytest.raises(SetupError, match=r"does not require k8s.io/minikube"):
        builds.required_version("k8s.io/minikube", NODE.folder / "go.mod")


def test_a_go_that_is_too_old_is_recognised(tmp_path: Path) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    assert builds._release(str(old)) < builds.OLDEST_GO
