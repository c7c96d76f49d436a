"""The results as Markdown, with the machine and the versions that they depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import markdown
from benchmarks.statistics import OURS, STOCK, Result, missed
from localnode import commands
from testbed.environments import PEER
from testbed.postgres import program
from testbed.state import CHECKOUT
from tests.support.kube import Kube

#: One other process that uses a whole core already affects the figures.
BUSY_LOAD = 1.5

Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """Lines of `name: value`; `load` is the machine's before anything was measured."""

    lines: Lines
    load: float

    @property
    def warnings(self) -> list[str]:
        if self.load < BUSY_LOAD:
            return []
        return [f"The machine was not idle: its load was {self.load:.1f} before the start."]


def report(results: Sequence[Result], machine: Machine) -> str:
    """Return the whole report: one table, then how each part measured, with its details."""
    parts = [
        "# Benchmark",
        *machine.warnings,
        table(results),
        "\n".join(missed(results)) or "Ours meets every target.",
        *(text for result in results for text in (f"## {result.title}", result.text)),
        "## Machine and versions",
        "\n".join(f"- {name}: {value}" for name, value in machine.lines),
    ]
    return "\n\n".join(parts) + "\n"


def table(results: Sequence[Result]) -> str:
    """Return the table, with a column per contender and one for the targets."""
    rows = [["", OURS, STOCK, "target of ours"]]
    for result in results:
        rows.append([f"**{result.title}**", "", "", ""])
        rows += [figure.row for figure in result.figures]
    return markdown.table(rows)


async def machine_and_servers(kube: Kube, *, load: float) -> Machine:
    """Describe the machine and the servers of a measurement."""
    cluster = (await kube.http.get("/version")).json()["gitVersion"]
    servers = (
        ("Kubernetes", str(cluster)),
        ("Prefect server", f"{version('prefect')} on {_postgresql()}"),
    )
    return Machine((*_machine(load), *servers, *_programs()), load)


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
