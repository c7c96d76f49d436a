"""Runs tests with other versions of Prefect and Kubernetes, and keeps the results.

A cell is one combination: the Prefect client, which is the environment that the tests and the
operator run in, the Prefect server, and the cluster. PREFECT=3.6 chooses the cells with that
server, KUBERNETES=1.35 those with that cluster. A run replaces the results of its cells in
`versions.json`, from which the table in docs/compatibility.md is made.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from packaging.requirements import Requirement

from localnode import builds, progress
from localnode.errors import SetupError
from testbed import clusters, environments
from testbed.environments import DEVELOPMENT, minor
from testbed.state import CHECKOUT

RESULTS = Path(__file__).with_name("versions.json")
#: Claims, with every answer of the server that they rely on, and the Jobs that follow.
TESTS = ("tests/contract/test_creation.py", "tests/contract/test_races_claims.py")


@dataclass(frozen=True)
class Cell:
    """Minor versions, such as "3.6" and "1.35"."""

    client: str
    server: str
    kubernetes: str

    def __str__(self) -> str:
        client, server = f"Prefect client {self.client}", f"server {self.server}"
        return f"{client}, {server}, Kubernetes {self.kubernetes}"


@dataclass(frozen=True)
class Result:
    """What a cell did, with the exact versions."""

    client: str
    server: str
    kubernetes: str
    passed: int
    failed: int
    date: str

    @property
    def cell(self) -> Cell:
        return Cell(minor(self.client), minor(self.server), minor(self.kubernetes))


LOCKED = minor(environments.locked_prefect(DEVELOPMENT))


def cells(environ: Mapping[str, str]) -> list[Cell]:
    """Return the cells that PREFECT and KUBERNETES choose; all if neither is set.

    The operator's image has the locked client and meets servers of every version; Prefect's own
    worker process has a client that pyproject.toml allows, with a server of at least that version.
    """
    prefects, cluster = environments.prefect_versions(), builds.DEFAULT_KUBERNETES
    clients = [version for version in prefects if version != LOCKED and is_allowed(version)]
    every = [
        *(Cell(LOCKED, server, cluster) for server in prefects),
        *(Cell(client, client, cluster) for client in clients),
        *(
            Cell(LOCKED, LOCKED, other)
            for other in builds.kubernetes_versions()
            if other != cluster
        ),
    ]
    server, kubernetes = environ.get("PREFECT"), environ.get("KUBERNETES")
    chosen = [
        cell
        for cell in every
        if server in {None, "", cell.server} and kubernetes in {None, "", cell.kubernetes}
    ]
    if not chosen:
        known = f"PREFECT is one of {', '.join(prefects)}"
        known += f", KUBERNETES one of {', '.join(builds.kubernetes_versions())}"
        raise SetupError(f"no cell has PREFECT={server} and KUBERNETES={kubernetes}: {known}")
    return chosen


def is_allowed(version: str) -> bool:
    """Return whether pyproject.toml allows the locked client of that minor version."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    (prefect,) = map(Requirement, project["optional-dependencies"]["worker"])
    return environments.locked_prefect(environments.with_prefect(version)) in prefect.specifier


def run(cell: Cell, *, workers: int) -> Result:
    """Run the tests of one cell."""
    client, server = map(environments.with_prefect, (cell.client, cell.server))
    for environment in (client, server):
        if not environment.is_current():
            environments.make(environment)
    environ = os.environ | {"PREFECT": cell.server} | _cluster_variables(cell)
    cluster = clusters.select(environ).cluster
    was_up = cluster.is_up()
    cluster.up()
    try:
        with progress.step(str(cell)):
            passed, failed = _run_tests(cell, client.python, environ, workers)
        version = json.loads(cluster.kubectl.run("get", "--raw=/version"))["gitVersion"]
    finally:
        if not was_up:
            cluster.down()
    return Result(
        client=environments.locked_prefect(client),
        server=environments.locked_prefect(server),
        kubernetes=version.removeprefix("v").partition("+")[0],
        passed=passed,
        failed=failed,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )


def _cluster_variables(cell: Cell) -> dict[str, str]:
    """Return what selects the cell's cluster: the user's for the default version, else a node."""
    if cell.kubernetes == builds.DEFAULT_KUBERNETES:
        return {"KUBERNETES": ""}
    return {"KUBERNETES": cell.kubernetes, "CLUSTER": "local"}


def _run_tests(
    cell: Cell, python: Path, environ: Mapping[str, str], workers: int
) -> tuple[int, int]:
    """Return the numbers of tests that passed and that failed."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        options = [f"--numprocesses={workers}", "--dist=loadgroup", f"--junitxml={report.name}"]
        subprocess.run(
            [python, "-m", "pytest", "-q", *options, *TESTS],
            cwd=CHECKOUT,
            env=environ,
            check=False,
        )
        if not Path(report.name).stat().st_size:
            raise SetupError(f"the tests of {cell} did not run; their output says why")
        return counts(ET.parse(report.name).getroot())


def counts(report: ET.Element) -> tuple[int, int]:
    """Return how many tests of a JUnit report passed, and how many did not."""
    suites = list(report.iter("testsuite"))
    total = sum(int(suite.attrib["tests"]) for suite in suites)
    failed = sum(int(suite.attrib[kind]) for suite in suites for kind in ("failures", "errors"))
    return total - failed, failed


def read() -> list[Result]:
    """Return the results of every cell that ran, in the order of `cells`."""
    return [Result(**each) for each in json.loads(RESULTS.read_text())]


def merged(known: list[Result], new: Result) -> list[Result]:
    """Return the results with one more, which replaces that of the same cell."""
    others = [each for each in known if each.cell != new.cell]
    order = cells({})
    current = [each for each in [*others, new] if each.cell in order]
    return sorted(current, key=lambda each: order.index(each.cell))


def write(results: list[Result]) -> None:
    RESULTS.write_text(json.dumps([asdict(each) for each in results], indent=2) + "\n")


def table(results: list[Result]) -> str:
    """Return the table of docs/compatibility.md."""
    lines = [
        "| Prefect client | Prefect server | Kubernetes | tests | ran on |",
        "|---|---|---|---|---|",
    ]
    for each in results:
        tests = f"{each.passed} passed" + (f", {each.failed} failed" if each.failed else "")
        columns = [each.client, each.server, each.kubernetes, tests, each.date]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the chosen cells; raises SetupError if a test failed."""
    failed: list[str] = []
    for cell in cells(os.environ):
        result = run(cell, workers=int(os.environ.get("WORKERS", "4")))
        write(merged(read(), result))
        if result.failed:
            failed.append(f"{cell}: {result.failed} tests")
    print(table(read()))
    if failed:
        raise SetupError("; ".join(failed))
