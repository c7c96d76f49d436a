"""A node whose pods are only entries in the API: kwok reports them as running.

kwok is built from source once, with Go, in about four minutes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.contenders import Environment
from testbed import builds
from testbed.daemon import Daemon
from tests.support.kube import Object

NODE = "bench-kwok"
MARK = "kwok.x-k8s.io/node"
STAGES = Path(__file__).with_name("kwok.yaml")


@asynccontextmanager
async def kwok_node(environment: Environment) -> AsyncIterator[Object]:
    """Yield the fields of a pod that place it on the node; its pods must end before the context."""
    command = [
        str(builds.tool("kwok")),
        f"--kubeconfig={environment.cluster.kubeconfig}",
        f"--config={STAGES}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={MARK}=fake",
    ]
    kwok = Daemon("kwok", command, log=environment.logs / "kwok.log")
    kwok.start()
    try:
        await environment.kube.create("nodes", "", _node())
        toleration = {"key": MARK, "operator": "Exists", "effect": "NoSchedule"}
        yield {"nodeSelector": {MARK: "fake"}, "tolerations": [toleration]}
    finally:
        await environment.kube.delete("nodes", "", NODE)
        kwok.stop()


def _node() -> Object:
    room = {"cpu": "1000", "memory": "1Ti", "pods": "100000"}
    return {
        "metadata": {"name": NODE, "annotations": {MARK: "fake"}, "labels": {MARK: "fake"}},
        "spec": {"taints": [{"key": MARK, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": room, "capacity": room},
    }
