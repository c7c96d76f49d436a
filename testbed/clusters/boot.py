"""Starts a local node and waits until it serves; what does not come is named with its log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime

from testbed import commands, state
from testbed.clusters import cgroups, configuration, dns, remains, runtime
from testbed.clusters.kubectl import Kubectl
from testbed.clusters.layout import Node
from testbed.errors import TestbedError
from testbed.images import PAUSE_IMAGE, pause_archive

NAMESPACES = ("--mount", "--mount-proc", "--pid", "--net", "--uts", "--ipc")
UNSHARE_SECONDS = 10
READY_SECONDS = 120
READY_CONDITION = (
    "get",
    "nodes",
    '--output=jsonpath={range .items[*].status.conditions[?(@.type=="Ready")]}'
    "{.status} {.lastHeartbeatTime}{end}",
)
DEFAULT_SERVICE_ACCOUNT = ("get", "serviceaccount", "default", "--namespace=default")


def start(node: Node) -> None:
    """Returns when the node runs and is joined to the host's network."""
    node.failure.unlink(missing_ok=True)
    configuration.write(node)
    cgroups.create(cgroups.name_of(node.slot, node.name))
    _unshare(node)
    _join(node, pid=_first_process(node))


def wait_until_ready(node: Node, kubectl: Kubectl) -> None:
    """Returns when pods can be made and find each other by name."""
    dns_service = dns.manifests(node)
    awaited: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("containerd", lambda: _has_pause_image(node)),
        ("kube-apiserver", lambda: configuration.write_kubeconfig(node)),
        ("kube-apiserver", lambda: bool(kubectl.run("get", "--raw=/readyz"))),
        ("kube-apiserver", lambda: bool(kubectl.run(*dns.APPLY, stdin=dns_service))),
        ("kubelet", lambda: _is_ready(node, kubectl.run(*READY_CONDITION))),
        ("kube-controller-manager", lambda: bool(kubectl.run(*DEFAULT_SERVICE_ACCOUNT))),
        ("coredns", lambda: dns.serves(node)),
    )
    for component, probe in awaited:
        _wait_for(component, node, probe)


def _unshare(node: Node) -> None:
    first = [sys.executable, "-m", remains.MODULE, *node.argv]
    unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child", *first]
    with node.log_of("node").open("ab") as log:
        # Not a child of this process: a Ctrl-C must not end the node, nor must this wait for it.
        subprocess.run(
            ["setsid", "--fork", *unshare],
            cwd=state.CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def _first_process(node: Node) -> int:
    deadline = time.monotonic() + UNSHARE_SECONDS
    while (pid := remains.pid_of_node(node.state)) is None:
        if time.monotonic() > deadline:
            log = node.log_of("node")
            raise TestbedError(f"node {node.name} did not start; what it said: {log}")
        time.sleep(0.02)
    return pid


def _join(node: Node, *, pid: int) -> None:
    """One end of a veth pair for the host, the other as eth0 for the node."""
    remains.remove_interface(node.slot)
    link = node.slot.interface
    peer = ["peer", "name", "eth0", "netns", str(pid)]
    commands.run(["ip", "link", "add", link, "type", "veth", *peer])
    commands.run(["ip", "address", "add", f"{node.slot.host_address}/30", "dev", link])
    commands.run(["ip", "link", "set", link, "up"])


def _has_pause_image(node: Node) -> bool:
    """Every pod needs it, and it can only be loaded once containerd serves."""
    if not runtime.has_image(node.state, PAUSE_IMAGE):
        runtime.load_image(node.state, pause_archive())
    return True


def _is_ready(node: Node, condition: str) -> bool:
    """By a word of this kubelet: that of the one before a kill would still say so."""
    status, _, heartbeat = condition.partition(" ")
    if status != "True":
        return False
    began = int(configuration.written_at(node))
    return datetime.fromisoformat(heartbeat).timestamp() >= began


def _wait_for(component: str, node: Node, probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while (refusal := _refusal(probe)) is not None:
        if remains.pid_of_node(node.state) is None:
            raise TestbedError(f"node {node.name} ended: {_why_it_ended(node)}")
        if time.monotonic() > deadline:
            raise TestbedError(
                f"{component} of node {node.name} does not serve after {READY_SECONDS} s"
                f" ({refusal}); its log: {node.log_of(component)}"
            )
        time.sleep(0.1)


def _refusal(probe: Callable[[], bool]) -> str | None:
    """Why what the probe asks for is not there yet, as far as it says so."""
    try:
        return None if probe() else "it says not ready"
    except TestbedError as wrong:
        return str(wrong)


def _why_it_ended(node: Node) -> str:
    if node.failure.exists():
        return node.failure.read_text()
    return f"it was killed, or could not say why; its log: {node.log_of('node')}"
