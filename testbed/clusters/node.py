"""Pid 1 of a local node: makes its namespaces a node, starts the components, minds them.

Started by `unshare` in namespaces of its own. Promises: nothing that the components write leaves
the state folder, the machine's kernel settings stay as they are, and the first component that ends
ends the node, its name and log left in the file `failure`. Killing this process ends all of it.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from testbed.clusters import components, layout
from testbed.clusters.layout import Node

STATE = Path("/run/state")
CACHE = Path("/run/cache")
# The kubelet sets these for the whole machine unless it finds them so; it is shown what it wants.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
JOIN_SECONDS = 20
API_SECONDS = 90


def main(node: Node) -> None:
    isolate(node)
    join_network(node)
    running = start(node, components.control_plane(node))
    wait_for_api(node, running)
    running |= start(node, components.once_the_api_serves(node))
    while True:
        mind(node, running, os.wait())


def isolate(node: Node) -> None:
    """The node's /var/lib and /var/log are the state folder's, its /run is empty."""
    socket.sethostname(node.name)
    _mount("-t", "tmpfs", "tmpfs", "/run")
    for folder in ("lock", "netns"):
        Path("/run", folder).mkdir()
    # First aside: the state or the cache may lie below the folders that are about to be covered.
    _bind(node.state, STATE)
    _bind(node.binaries.parent, CACHE)
    _bind(STATE / "lib", Path("/var/lib"))
    _bind(STATE / "log", Path("/var/log"))
    Path(layout.RESOLV_CONF).write_text(f"nameserver {layout.DNS_ADDRESS}\n")
    for setting, value in KERNEL_SETTINGS.items():
        shown = Path("/run", Path(setting).name)
        shown.write_text(f"{value}\n")
        _mount("--bind", str(shown), f"/proc/sys/{setting}")


def join_network(node: Node) -> None:
    """Waits for the host to hand the veth's other end over, then gives it the node's address."""
    deadline = time.monotonic() + JOIN_SECONDS
    while "eth0" not in _interfaces():
        if time.monotonic() > deadline:
            fail(node, f"the host did not join the node's network within {JOIN_SECONDS} s")
        time.sleep(0.02)
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{node.slot.node_address}/30", "dev", "eth0")
    _ip("link", "set", "eth0", "up")
    # Without a default route nothing of the node reaches further than the host. Service addresses
    # need a route for kube-proxy's rules to see them: a bridge without ports, for want of `dummy`.
    _ip("link", "add", "services", "type", "bridge")
    _ip("link", "set", "services", "up")
    _ip("route", "add", layout.SERVICES, "dev", "services")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def start(node: Node, parts: Iterable[components.Component]) -> dict[int, components.Component]:
    return {_spawn(node, part): part for part in parts}


def wait_for_api(node: Node, running: dict[int, components.Component]) -> None:
    deadline = time.monotonic() + API_SECONDS
    while not api_is_ready():
        mind(node, running, os.waitpid(-1, os.WNOHANG))
        if time.monotonic() > deadline:
            log = node.log_of("kube-apiserver")
            fail(node, f"kube-apiserver is not ready after {API_SECONDS} s; its log: {log}")
        time.sleep(0.05)


def api_is_ready() -> bool:
    unverified = ssl._create_unverified_context()  # its certificate is made while it starts
    try:
        with urllib.request.urlopen(
            "https://127.0.0.1:6443/readyz", timeout=2, context=unverified
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def mind(node: Node, running: dict[int, components.Component], ended: tuple[int, int]) -> None:
    """Fails the node if what ended is a component; others are orphans that pid 1 has to reap."""
    pid, status = ended
    if pid in running:
        name, code = running[pid].name, os.waitstatus_to_exitcode(status)
        how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
        fail(node, f"{name} ended {how}; its log: {node.log_of(name)}")


def fail(node: Node, reason: str) -> None:
    (STATE / node.failure.name).write_text(reason)
    sys.exit(reason)


def _spawn(node: Node, part: components.Component) -> int:
    log = f"/var/log/{part.name}.log"
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [(os.POSIX_SPAWN_OPEN, 1, log, append, 0o644), (os.POSIX_SPAWN_DUP2, 1, 2)]
    binaries = CACHE / node.binaries.name
    return os.posix_spawn(
        binaries / part.name,
        part.argv,
        # Nothing of the user's, such as a proxy, which does not lead to the node.
        {"PATH": f"{binaries}:/usr/sbin:/usr/bin:/sbin:/bin"},
        file_actions=actions,
        setsigdef=[signal.SIGPIPE],  # Python ignores it, and what it starts would too
    )


def _interfaces() -> str:
    return Path("/proc/self/net/dev").read_text()


def _bind(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    _mount("--bind", str(source), str(target))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


if __name__ == "__main__":
    main(Node.from_argv(sys.argv[1:]))
