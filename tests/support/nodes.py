"""Local nodes of a single test, besides the shared one, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from localnode import addresses, cgroups, processes
from localnode.addresses import Addresses
from localnode.kubectl import Kubectl
from localnode.node import LocalNode
from localnode.pause import PAUSE_IMAGE
from testbed import state

#: Folders of the machine to which a node's programs must not write.
FOREIGN_FOLDERS = ("/etc/cni", "/opt", "/run/netns", "/usr/libexec", "/var/lib", "/var/log")
BUSYBOX = "/bin/busybox"


def own_node() -> LocalNode:
    """Return a new node, which is not started yet."""
    return LocalNode(state.root() / f"wpo-test-{uuid.uuid4().hex[:6]}", state.cache())


def start_command(node: LocalNode) -> subprocess.Popen[bytes]:
    """Start `python -m testbed up` of that node, in a process that a test can kill."""
    return subprocess.Popen(
        [sys.executable, "-m", "testbed", "up"],
        env=os.environ | {"CLUSTER": "local", "CLUSTER_NAME": node.name},
        cwd=state.CHECKOUT,
    )


def kill(node: LocalNode) -> None:
    """Kill the node's pid 1, as a machine that runs out of memory can do."""
    pid = processes.init_pid(node.state)
    assert pid is not None, f"{node.name} does not run"
    os.kill(pid, signal.SIGKILL)


def kill_component(node: LocalNode, name: str) -> None:
    """Kill the component; return once the node has ended because of that."""
    first = processes.init_pid(node.state)
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    named = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == name[:15]]
    os.kill(int(named[0]), signal.SIGKILL)
    while processes.init_pid(node.state) is not None:
        time.sleep(0.05)


def run_job(kubectl: Kubectl, name: str, script: str) -> str:
    """Run a Job whose pod runs the script in busybox's shell; return its log."""
    container = {
        "name": name,
        "image": PAUSE_IMAGE,
        "imagePullPolicy": "Never",
        "command": [BUSYBOX, "sh", "-ec", script],
    }
    pod = {"restartPolicy": "Never", "containers": [container]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
    kubectl.run("create", "--filename=-", stdin=json.dumps(job))
    kubectl.run("wait", "--for=condition=Complete", f"job/{name}", "--timeout=60s")
    return kubectl.run("logs", f"job/{name}")


@dataclass(frozen=True)
class Machine:
    """What a node can leave behind on its machine."""

    processes: list[str]
    mounts: list[str]
    interface: bool
    cgroups: list[Path]
    files: list[Path]
    rules: str
    kernel_settings: str
    folders: dict[str, list[str]]

    @classmethod
    def now(cls, node: LocalNode, own: Addresses | None) -> Machine:
        return cls(
            processes=_processes_of(node),
            mounts=[
                line for line in Path("/proc/mounts").read_text().splitlines() if node.name in line
            ],
            interface=own is not None and Path("/sys/class/net", own.interface).exists(),
            cgroups=[
                folder
                for hierarchy in cgroups.hierarchies()
                for folder in hierarchy.glob(f"**/*{node.name}")
            ],
            files=[path for path in (node.state, *_records_of(node)) if path.exists()],
            rules=subprocess.check_output(["iptables", "--list-rules"], text=True)
            + subprocess.check_output(["iptables", "--table=nat", "--list-rules"], text=True),
            kernel_settings="".join(map(_kernel_setting, ("vm/overcommit_memory", "kernel/panic"))),
            folders={name: _entries(Path(name)) for name in FOREIGN_FOLDERS},
        )


def _processes_of(node: LocalNode) -> list[str]:
    """Return the processes with the node's name in their command line or cgroup, also of pods."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if node.name in command or node.name in (folder / "cgroup").read_text():
                found.append(command)
        except OSError:
            continue  # it ended meanwhile
    return found


def _records_of(node: LocalNode) -> list[Path]:
    records = addresses.REGISTRY.glob("*")
    return [record for record in records if record.read_text() == str(node.state)]


def _kernel_setting(name: str) -> str:
    return Path("/proc/sys", name).read_text()


def _entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


def wait_for_the_end_of(process: subprocess.Popen[bytes], *, after_seconds: float) -> None:
    """Kill the process after that time."""
    time.sleep(after_seconds)
    process.kill()
    process.wait()
