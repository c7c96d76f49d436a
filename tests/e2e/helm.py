"""Helm as a user of the chart types it, bound to one cluster and namespace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localnode import commands
from testbed import builds
from testbed.state import CHECKOUT

CHART = CHECKOUT / "charts" / "workpool-operator"


@dataclass(frozen=True)
class Helm:
    kubeconfig: Path
    namespace: str

    def install(self, release: str, values: Path) -> None:
        self._run("install", release, str(CHART), f"--values={values}")

    def upgrade(self, release: str, values: Path) -> None:
        self._run("upgrade", release, str(CHART), f"--values={values}")

    def has(self, release: str) -> bool:
        return release in self._run("list", "--all", "--short").split()

    def uninstall(self, release: str) -> None:
        self._run("uninstall", release, "--wait")

    def _run(self, *arguments: str) -> str:
        place = [f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]
        return commands.run([builds.tool("helm"), *arguments, *place])


def write_values(file: Path, *, image: str, bindings: list[dict[str, Any]], **more: Any) -> Path:
    """Write the values to a file, and return its path; JSON is valid YAML."""
    repository, tag = image.rsplit(":", 1)
    values = {
        "image": {"repository": repository, "tag": tag},
        "bindings": bindings,
        "podSecurityContext": {"runAsUser": 1_000_710_000, "runAsGroup": 0},  # as on OpenShift
        **more,
    }
    file.write_text(json.dumps(values))
    return file
