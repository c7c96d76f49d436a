"""Enforces NetworkPolicies on a local node, whose own network does not; that of kind does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localnode import layout, processes
from localnode.node import LocalNode
from testbed import builds
from testbed.clusters import Cluster
from testbed.daemon import Daemon

START_SECONDS = 60


@contextmanager
def network_policies_enforced(cluster: Cluster, log: Path) -> Iterator[None]:
    """Run kube-router's firewall in the node. It leaves no rule of a policy that was deleted
    before its end."""
    if not isinstance(cluster, LocalNode):
        yield
        return
    in_the_node = ["nsenter", f"--target={processes.init_pid(cluster.state)}", "--mount", "--net"]
    options = [
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        f"--kubeconfig={layout.CONFIGURATION}/admin.kubeconfig",
        f"--hostname-override={cluster.name}",
        f"--service-cluster-ip-range={layout.SERVICES}",
    ]
    command = [*in_the_node, str(builds.tool("kube-router")), *options]
    enforcer = Daemon("kube-router", command, log=log)
    enforcer.start()
    try:
        enforcer.wait_until(lambda: "full sync goroutine" in log.read_text(), seconds=START_SECONDS)
        yield
    finally:
        enforcer.stop()
