"""`python -m benchmarks [PART ...]`: measures, prints the report and writes it to a file.

Exits with 1 if ours misses a target, with 2 if something could not be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx

from benchmarks import fairness, latency, leases, load, memory, render, throughput
from benchmarks.contenders import Environment, environment
from benchmarks.report import machine_and_servers, report
from benchmarks.statistics import OURS, STOCK, Result, missed
from localnode import progress
from localnode.errors import SetupError
from localnode.lock import exclusive
from testbed import state
from testbed.state import CHECKOUT

RESULTS = Path(__file__).parent / "results"
PICTURES = CHECKOUT / "docs"  # of the default report; others have theirs next to them
INTERRUPTED = 130

Part = Callable[[Environment, argparse.Namespace], Awaitable[Result]]

PARTS: dict[str, Part] = {
    "latency": lambda environment, options: latency.measure(
        environment, latency.Plan(options.runs or 30, options.seed), contenders(options)
    ),
    "throughput": lambda environment, options: throughput.measure(
        environment, names=contenders(options)
    ),
    "pods": lambda environment, options: throughput.measure_with_pods(
        environment, names=contenders(options)
    ),
    "load": lambda environment, options: load.measure(
        environment, load.Plan(options.rates, options.queued)
    ),
    "fairness": lambda environment, options: fairness.measure(
        environment, runs=options.runs or 100
    ),
    "memory": lambda environment, options: memory.measure(
        environment, memory.Plan(options.jobs, options.bindings, options.ended, options.others)
    ),
    "leases": lambda environment, options: leases.measure(environment, leases=options.leases),
    "render": lambda _, __: render.measure(),
}


#: Measured only if they are named.
LONG = frozenset({"memory", "leases"})


def main() -> int:
    options = _options()
    logs = state.folder() / "bench"
    try:
        with exclusive(logs, purpose="measures"):
            _empty(logs)
            results, text = asyncio.run(bench(options, logs))
    except (SetupError, AssertionError, httpx.HTTPError) as error:
        print(f"bench failed: {str(error) or repr(error)}\n  logs: {logs}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbench was interrupted", file=sys.stderr)
        return INTERRUPTED
    _write(results, text, options)
    return 1 if missed(results) else 0


async def bench(options: argparse.Namespace, logs: Path) -> tuple[list[Result], str]:
    """Return what each part measured, and the report on all."""
    load = os.getloadavg()[0]
    results = []
    async with environment(logs) as shared:
        for name in options.parts:
            with progress.step(name):
                results.append(await PARTS[name](shared, options))
        machine = await machine_and_servers(shared.kube, load=load)
    return results, report(results, machine)


def contenders(options: argparse.Namespace) -> Sequence[str]:
    return (OURS,) if options.ours_alone else (OURS, STOCK)


def _write(results: Sequence[Result], text: str, options: argparse.Namespace) -> None:
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)
    for result in results:
        for name, svg in result.pictures.items():
            (options.pictures / name).write_text(svg)
    print(f"\n{text}\nwritten to {options.output}, pictures to {options.pictures}")


def _empty(folder: Path) -> None:
    """Remove the content of the folder; the folder itself is the lock."""
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)} (all but memory and leases)",
    )
    parser.add_argument("--runs", type=int, help="single runs (latency: 30, fairness: 100)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the pauses between runs (1)")
    rates = "runs per second of load (50 100)"
    parser.add_argument("--rates", type=int, nargs="*", default=[50, 100], help=rates)
    parser.add_argument("--queued", type=int, default=5000, help="queued runs of load (5000)")
    parser.add_argument("--jobs", type=int, default=10_000, help="live Jobs of memory (10000)")
    parser.add_argument("--bindings", type=int, default=100, help="bindings of memory (100)")
    parser.add_argument("--ended", type=int, default=20_000, help="ended runs of memory (20000)")
    others = "pods of others of memory (50000; 0, as for the others: not measured)"
    parser.add_argument("--others", type=int, default=50_000, help=others)
    parser.add_argument("--leases", type=int, default=1000, help="Leases of leases (1000)")
    parser.add_argument("--ours-alone", action="store_true", help="leave out the stock worker")
    parser.add_argument("--output", type=Path, help="the report (of today)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    part = "".join(f"-{name}" for name in options.parts)
    options.pictures = options.output.parent if options.output else PICTURES
    options.output = options.output or RESULTS / f"{datetime.now(UTC):%Y-%m-%d}{part}.md"
    options.parts = options.parts or [name for name in PARTS if name not in LONG]
    return options


if __name__ == "__main__":
    sys.exit(main())
