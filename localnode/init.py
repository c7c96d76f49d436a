"""Pid 1 of a node: sets its namespaces up, starts the components and supervises them.

`unshare` starts it in new namespaces. The components write only to the state folder, and the kernel
settings of the machine do not change. If a component exits, the node ends; the file `failure` then
has the name and log of that component. Killing this process ends the whole node.
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

from localnode import components, layout
from localnode.layout import Node

STATE = Path("/run/state")
# The kubelet would set these for the whole machine; it finds them set and leaves them alone.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
CONNECT_SECONDS = 20
API_SECONDS = 90


def main(node: Node) -> None:
    set_up_mounts(node)
    set_up_network(node)
    running = start(node, components.control_plane(node))
    wait_for_api(node, running)
    running |= start(node, components.clients_of_the_api(node))
    while True:
        check_ended(node, running, os.wait())


def set_up_mounts(node: Node) -> None:
    """Mount /var/lib and /var/log from the state folder, and an empty /run."""
    socket.sethostname(node.name)
    _mount("-t", "tmpfs", "tmpfs", "/run")
    for folder in ("lock", "netns"):
        Path("/run", folder).mkdir()
    # These first: state or programs may lie below the folders that are covered next.
    _bind(node.state, STATE)
    _bind(node.binaries, Path(layout.BINARIES))
    _bind(STATE / "lib", Path("/var/lib"))
    _bind(STATE / "log", Path("/var/log"))
    Path(layout.RESOLV_CONF).write_text(f"nameserver {layout.DNS_ADDRESS}\n")
    for setting, value in KERNEL_SETTINGS.items():
        shown = Path("/run", Path(setting).name)
        shown.write_text(f"{value}\n")
        _mount("--bind", str(shown), f"/proc/sys/{setting}")


def set_up_network(node: Node) -> None:
    """Wait until the host moves the veth's other end here, then give it the node's address."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while "eth0" not in _interfaces():
        if time.monotonic() > deadline:
            fail(node, f"the host did not connect the node within {CONNECT_SECONDS} s")
        time.sleep(0.02)
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{node.addresses.node}/30", "dev", "eth0")
    _ip("link", "set", "eth0", "up")
    # There is no default route, so the node reaches no further than the host. Service addresses
    # need a route, so that kube-proxy's rules see them: to a bridge without ports, as not every
    # kernel has dummy interfaces.
    _ip("link", "add", "services", "type", "bridge")
    _ip("link", "set", "services", "up")
    _ip("route", "add", layout.SERVICES, "dev", "services")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def start(node: Node, parts: Iterable[components.Component]) -> dict[int, components.Component]:
    return {_spawn(node, part): part for part in parts}


def wait_for_api(node: Node, running: dict[int, components.Component]) -> None:
    deadline = time.monotonic() + API_SECONDS
    while not api_is_ready():
        check_ended(node, running, os.waitpid(-1, os.WNOHANG))
        if time.monotonic() > deadline:
            log = node.log_of("kube-apiserver")
            fail(node, f"kube-apiserver is not ready after {API_SECONDS} s; its log: {log}")
        time.sleep(0.05)


def api_is_ready() -> bool:
    unverified = ssl._create_unverified_context()  # the certificate is made at the start
    try:
        with urllib.request.urlopen(
            "https://127.0.0.1:6443/readyz", timeout=2, context=unverified
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def check_ended(
    node: Node, running: dict[int, components.Component], ended: tuple[int, int]
) -> None:
    """Fail the node if a component ended; other processes are orphans that pid 1 has to reap."""
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
    return os.posix_spawn(
        Path(layout.BINARIES, part.name),
        part.argv,
        # Nothing of the user's, such as a proxy, which would not reach the node.
        {"PATH": f"{layout.BINARIES}:/usr/sbin:/usr/bin:/sbin:/bin"},
        file_actions=actions,
        setsigdef=[signal.SIGPIPE],  # Python ignores it, and its children would, too
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
