"""Starts a node and waits until it serves; a part that does not serve is named with its log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from localnode import cgroups, cleanup, commands, configuration, dns, processes, runtime
from localnode.cache import Cache
from localnode.errors import SetupError
from localnode.layout import Node
from localnode.pause import PAUSE_IMAGE, pause_archive

IMPORTED_FROM = Path(__file__).resolve().parent.parent
NAMESPACES = ("--mount", "--mount-proc", "--pid", "--net", "--uts", "--ipc")
UNSHARE_SECONDS = 10
READY_SECONDS = 120
READY = (
    '--output=jsonpath={range .status.conditions[?(@.type=="Ready")]}'
    "{.status} {.lastHeartbeatTime}{end}"
)
DEFAULT_SERVICE_ACCOUNT = ("get", "serviceaccount", "default", "--namespace=default")


def start(node: Node) -> None:
    """Return when pid 1 of the node runs and the node is connected to the host's network."""
    node.failure.unlink(missing_ok=True)
    configuration.write(node)
    cgroups.create(cgroups.name_of(node.addresses, node.name))
    _unshare(node)
    _connect(node, pid=_first_process(node))


def wait_until_ready(node: Node, cache: Cache) -> None:
    """Return when the node runs pods that find each other by name."""
    kubectl, dns_service = node.kubectl, dns.manifests(node)
    awaited: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("containerd", lambda: _has_pause_image(node, cache)),
        ("kube-apiserver", lambda: configuration.write_kubeconfig(node)),
        ("kube-apiserver", lambda: bool(kubectl.run("get", "--raw=/readyz"))),
        ("kube-apiserver", lambda: bool(kubectl.run(*dns.APPLY, stdin=dns_service))),
        ("kubelet", lambda: _is_ready(node, kubectl.run("get", "node", node.name, READY))),
        ("kube-controller-manager", lambda: bool(kubectl.run(*DEFAULT_SERVICE_ACCOUNT))),
        ("coredns", lambda: dns.serves(node)),
    )
    for component, probe in awaited:
        _wait_for(component, node, probe)


def _unshare(node: Node) -> None:
    init = [sys.executable, "-m", processes.INIT, *node.argv]
    unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child", *init]
    with node.log_of("node").open("ab") as log:
        # Not a child of this process: Ctrl-C must not end the node, nor must this wait for it.
        subprocess.run(
            ["setsid", "--fork", *unshare],
            cwd=IMPORTED_FROM,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def _first_process(node: Node) -> int:
    deadline = time.monotonic() + UNSHARE_SECONDS
    while (pid := processes.init_pid(node.state)) is None:
        if time.monotonic() > deadline:
            log = node.log_of("node")
            raise SetupError(
                f"node {node.name} did not start within {UNSHARE_SECONDS} s; its log: {log}"
            )
        time.sleep(0.02)
    return pid


def _connect(node: Node, *, pid: int) -> None:
    """Create a veth pair: one end for the host, the other as eth0 for the node."""
    cleanup.remove_interface(node.addresses)
    link = node.addresses.interface
    peer = ["peer", "name", "eth0", "netns", str(pid)]
    commands.run(["ip", "link", "add", link, "type", "veth", *peer])
    commands.run(["ip", "address", "add", f"{node.addresses.host}/30", "dev", link])
    commands.run(["ip", "link", "set", link, "up"])


def _has_pause_image(node: Node, cache: Cache) -> bool:
    """Load the image that every pod needs as soon as containerd serves."""
    if not runtime.has_image(node.state, PAUSE_IMAGE):
        runtime.load_image(node.state, pause_archive(cache))
    return True


def _is_ready(node: Node, condition: str) -> bool:
    """Return whether this kubelet reports Ready: what one before a kill reported is still there."""
    status, _, heartbeat = condition.partition(" ")
    if status != "True":
        return False
    began = int(configuration.written_at(node))
    return datetime.fromisoformat(heartbeat).timestamp() >= began


def _wait_for(component: str, node: Node, probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while (reason := _reason_not_ready(probe)) is not None:
        if processes.init_pid(node.state) is None:
            raise SetupError(f"node {node.name} ended: {_reason_for_its_end(node)}")
        if time.monotonic() > deadline:
            raise SetupError(
                f"{component} of node {node.name} does not serve after {READY_SECONDS} s"
                f" ({reason}); its log: {node.log_of(component)}"
            )
        time.sleep(0.1)


def _reason_not_ready(probe: Callable[[], bool]) -> str | None:
    try:
        return None if probe() else "it reports that it is not ready"
    except SetupError as error:
        return str(error)


def _reason_for_its_end(node: Node) -> str:
    if node.failure.exists():
        return node.failure.read_text()
    return f"it was killed, or could not write its reason; its log: {node.log_of('node')}"
