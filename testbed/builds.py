"""The Go programs that tests use."""

from __future__ import annotations

import os
from pathlib import Path

from localnode.builds import GoModule
from localnode.errors import SetupError
from testbed import clusters, state

FOLDER = Path(__file__).resolve().parent / "go"
HELM = GoModule("helm", folder=FOLDER / "helm", programs=("helm",))
KWOK = GoModule("kwok", folder=FOLDER / "kwok", programs=("kwok",))
#: Enforces NetworkPolicies on a local node; of what it can do, only that is used.
KUBE_ROUTER = GoModule("kube-router", folder=FOLDER / "kube-router", programs=("kube-router",))
#: Without its web pages, and without discovery of targets by the API of a cloud or cluster.
PROMETHEUS = GoModule(
    "prometheus",
    folder=FOLDER / "prometheus",
    programs=("prometheus", "promtool"),
    tags=("remove_all_sd",),
)
#: Computes what Flux and Argo CD make of a status.
GITOPS_HEALTH = GoModule(
    "gitops-health",
    folder=FOLDER / "gitops",
    programs=("gitops-health",),
    mains=("gitops-health",),
)
MODULES = (HELM, KWOK, KUBE_ROUTER, PROMETHEUS, GITOPS_HEALTH)


def tool(name: str) -> Path:
    """Return the path of one of these programs or the cluster's "kubectl"; builds it if it is
    missing."""
    if name == "kubectl":
        return clusters.select(os.environ).cluster.kubectl.program
    for module in MODULES:
        if name in module.programs:
            return module.build(state.cache()) / name
    raise SetupError(f"no Go module in {FOLDER} builds {name!r}")
