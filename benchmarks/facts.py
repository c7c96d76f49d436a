"""What the figures depend on: machine, load, versions."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from localnode import commands
from testbed.environments import PEER
from testbed.postgres import program
from testbed.state import CHECKOUT
from tests.support.kube import Kube
from tests.support.prefect import PrefectApi

#: One process that always computes, beside the servers that are measured, already shows.
BUSY_LOAD = 1.5

Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Lines of `name: value`; `load` is what the machine did before anything was measured."""

    lines: Lines
    load: float

    @property
    def warnings(self) -> list[str]:
        if self.load < BUSY_LOAD:
            return []
        return [f"The machine was not idle: its load was {self.load:.1f} before the start."]


def of_this_machine(*, load: float) -> Facts:
    """Where no server took part."""
    return Facts((*_machine(load), *_programs()), load)


async def gather(kube: Kube, api: PrefectApi, *, load: float) -> Facts:
    cluster = (await kube.http.get("/version")).json()["gitVersion"]
    server = f"{await api.request('GET', '/admin/version')} on {_postgresql()}"
    servers = (("Kubernetes", str(cluster)), ("Prefect server", server))
    return Facts((*_machine(load), *servers, *_programs()), load)


def _machine(load: float) -> Lines:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return (
        ("Date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("Machine", f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB"),
        ("System", f"{system}, Linux {os.uname().release}"),
        ("Load before the start", f"{load:.2f} (1 min)"),
    )


def _programs() -> Lines:
    return (
        ("workpool-operator", f"{version('workpool-operator')}, commit {_commit()}"),
        ("Stock worker", f"prefect-kubernetes {_peer('prefect-kubernetes')}"),
        ("Python", platform.python_version()),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _postgresql() -> str:
    return "PostgreSQL " + commands.run([program("postgres"), "--version"]).split()[2]


def _commit() -> str:
    git = ("git", "-C", CHECKOUT)
    changed = commands.run([*git, "status", "--porcelain", "--", "operator"])
    return commands.run([*git, "rev-parse", "--short", "HEAD"]).strip() + (
        " with changes" if changed else ""
    )


def _peer(distribution: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return commands.run([PEER.python, "-c", code]).strip()
