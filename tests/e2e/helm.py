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
RELEASE = "test"
CRD = "workpoolbindings.workpool-operator.dev"
#: As a user has it who installed before the chart had a hook for its CRD.
PREVIOUS_CHART = Path(__file__).with_name("previous-chart.tgz")


@dataclass(frozen=True)
class Helm:
    kubeconfig: Path
    namespace: str

    def install(self, release: str, values: Path, *, chart: Path = CHART) -> None:
        self._run("install", release, str(chart), f"--values={values}")

    def test(self, release: str) -> str:
        """Run `helm test`, which must pass; return the log of its pod."""
        return self._run("test", release, "--logs")

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
