"""The Go programs that tests use."""

from __future__ import annotations

import os
from pathlib import Path

from localnode.builds import GoModule
from localnode.errors import SetupError
from testbed import clusters, state

MODULES = Path(__file__).resolve().parent / "go"
HELM = GoModule("helm", folder=MODULES / "helm", programs=("helm",))
KWOK = GoModule("kwok", folder=MODULES / "kwok", programs=("kwok",))


def tool(name: str) -> Path:
    """Return the path of "helm", "kwok" or the cluster's "kubectl"; builds it if it is missing."""
    if name == "kubectl":
        return clusters.select(os.environ).cluster.kubectl.program
    for module in (HELM, KWOK):
        if name in module.programs:
            return module.build(state.cache()) / name
    raise SetupError(f"no Go module in {MODULES} builds {name!r}")
