"""The results as Markdown, with the machine and the versions that they depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.claim_path import per_run
from benchmarks.statistics import (
    OURS,
    RENDER_SECONDS,
    TARGETS,
    Measurement,
    Rendering,
    Target,
    missed,
)
from localnode import commands
from testbed.environments import PEER
from testbed.postgres import program
from testbed.state import CHECKOUT
from tests.support.kube import Kube
from tests.support.prefect import PrefectApi

#: One other process that uses a whole core already affects the figures.
BUSY_LOAD = 1.5

Lines = tuple[tuple[str, str], ...]

#: Figures without a target.
FURTHER: dict[str, Callable[[Measurement], str]] = {
    "run created -> Job, slowest": lambda measured: f"{measured.percentile(1):.2f} s",
    "Prefect calls per run, mean": lambda measured: (
        f"{sum(measured.calls) / measured.runs:.3g} calls"
    ),
    "CPU time per run": lambda measured: f"{measured.cpu_seconds_per_run * 1000:.0f} ms",
    "CPU when idle": lambda measured: f"{measured.idle_cpu_share:.1%} of a core",
    "load of the machine meanwhile": lambda measured: f"{measured.load:.1f}",
    "resident memory": lambda measured: f"{measured.resident_bytes / 2**20:.0f} MiB",
}


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


def report(
    measured: Sequence[Measurement], machine: Machine, *, renderings: Sequence[Rendering]
) -> str:
    """Return the whole report; the first measurement is ours."""
    parts = [
        "# Run created -> Job created",
        *machine.warnings,
        figures(measured),
        "\n".join(missed(measured[0])) or "Ours meets every target.",
        _method(measured[0].runs),
        "## CPU time of rendering one Job",
        rendering(renderings),
        *_calls(measured),
        *_versions(machine),
    ]
    return "\n\n".join(parts) + "\n"


def report_of_rendering(measured: Sequence[Rendering], machine: Machine) -> str:
    """Return the report on rendering alone, which needs neither cluster nor server."""
    parts = ["# CPU time of rendering one Job", *machine.warnings, rendering(measured)]
    return "\n\n".join([*parts, *_versions(machine)]) + "\n"


def figures(measured: Sequence[Measurement]) -> str:
    """Return the table, with a column per contender and one for the targets."""
    rows = [["", *(each.name for each in measured), "target"]]
    rows += [_targeted(target, measured) for target in TARGETS]
    rows += [[title, *map(show, measured), ""] for title, show in FURTHER.items()]
    return _table(rows)


def rendering(measured: Sequence[Rendering]) -> str:
    """Return the table, and how it was measured."""
    rows = [["", "template", "mean", "p99", "target"]]
    for each in measured:
        target = f"mean <= {RENDER_SECONDS * 1000:g} ms" if each.contender == OURS else ""
        times = (f"{seconds * 1000:.2f} ms" for seconds in (each.mean, each.p99))
        rows.append([each.contender, each.template, *times, target])
    renders = len(measured[0].seconds)
    return (
        f"{_table(rows)}\n\n{renders} renders of each, one after the other, each of another run,"
        " with 30 environment variables; a first one is not counted."
    )


def _versions(machine: Machine) -> Iterator[str]:
    yield "## Machine and versions"
    yield "\n".join(f"- {name}: {value}" for name, value in machine.lines)


def _targeted(target: Target, measured: Sequence[Measurement]) -> list[str]:
    values = [f"{target.of(each):.{target.digits}f} {target.unit}" for each in measured]
    return [target.figure, *values, f"<= {target.at_most:g} {target.unit}"]


def _method(runs: int) -> str:
    rank = "the slowest one" if runs < 100 else "a measured value"
    return (
        f"{runs} runs, one after the other, after one that is not counted. Percentiles are by"
        f" nearest rank, so that p99 is {rank}. CPU time per run is what the program used"
        " beyond its idle use, for the whole life of a run."
    )


def _calls(measured: Sequence[Measurement]) -> Iterator[str]:
    for each in measured:
        yield f"## Prefect calls of a run: {each.name}"
        yield _list(per_run([sample.path.counted for sample in each.samples]))
        yield "Not counted, from the same time:"
        yield _list(per_run([sample.path.not_counted for sample in each.samples])) or "- none"


def _list(numbers: dict[str, float]) -> str:
    return "\n".join(f"- {number:.2f} {name}" for name, number in numbers.items())


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well as text; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def this_machine(*, load: float) -> Machine:
    """Describe the machine for measurements without servers."""
    return Machine((*_machine(load), *_programs()), load)


async def machine_and_servers(kube: Kube, api: PrefectApi, *, load: float) -> Machine:
    """Describe the machine and the servers of a measurement."""
    cluster = (await kube.http.get("/version")).json()["gitVersion"]
    server = f"{await api.request('GET', '/admin/version')} on {_postgresql()}"
    servers = (("Kubernetes", str(cluster)), ("Prefect server", server))
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
