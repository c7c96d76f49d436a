from __future__ import annotations

from pathlib import Path

import pytest

from testbed import builds
from testbed.errors import TestbedError

MODULES = (*builds.OF_THE_NODE, builds.HELM, builds.KWOK)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_program_is_a_tool_of_its_module(module: builds.GoModule) -> None:
    lines = (module.folder / "go.mod").read_text().split("tool ", 1)[1].split("require", 1)[0]
    assert len([line for line in lines.splitlines() if "/" in line]) == len(module.programs)


def test_kubernetes_is_stamped_with_the_version_that_its_module_requires() -> None:
    required = (builds.KUBERNETES.folder / "go.mod").read_text()
    version = builds.KUBERNETES.ldflags.rpartition("=")[2]
    assert f"\tk8s.io/kubernetes {version}" in required


def test_an_unknown_tool_is_refused_by_name() -> None:
    with pytest.raises(TestbedError, match="builds 'minikube'"):
        builds.tool("minikube")


def test_a_go_that_is_too_old_is_seen(tmp_path: Path) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    assert builds._release(str(old)) < builds.OLDEST_GO
