"""`python -m benchmarks`: measures both contenders, prints the report and writes it to a file.

Exits with 1 if ours misses a target, with 2 if nothing could be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx

from benchmarks import render
from benchmarks.contenders import CONTENDERS, environment
from benchmarks.measure import Plan, measure
from benchmarks.report import machine_and_servers, report
from benchmarks.statistics import Measurement, missed
from localnode import progress
from localnode.errors import SetupError
from localnode.lock import exclusive
from testbed import state

RESULTS = Path(__file__).parent / "results"
INTERRUPTED = 130


def main() -> int:
    options = _options()
    logs = state.folder() / "bench"
    try:
        with exclusive(logs, purpose="measures"):
            _empty(logs)
            ours, text = asyncio.run(bench(Plan(options.runs, options.seed), logs))
    except (SetupError, AssertionError, httpx.HTTPError) as error:
        print(f"bench failed: {error}\n  logs: {logs}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbench was interrupted", file=sys.stderr)
        return INTERRUPTED
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)
    print(f"\n{text}\nwritten to {options.output}")
    return 1 if missed(ours) else 0


async def bench(plan: Plan, logs: Path) -> tuple[Measurement, str]:
    """Return our measurement, and the report on all."""
    load = os.getloadavg()[0]
    async with environment(logs) as shared:
        measured = []
        for name, contender in CONTENDERS.items():
            with progress.step(f"{name}: {plan.runs} runs"):
                measured.append(await measure(contender, shared, name=name, plan=plan))
        machine = await machine_and_servers(shared.kube, shared.api, load=load)
    renderings = await render.measure()
    return measured[0], report(measured, machine, renderings=renderings)


def _empty(folder: Path) -> None:
    """Remove the content of the folder; the folder itself is the lock."""
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="runs per contender (30)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the pauses between runs (1)")
    today = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.md"
    parser.add_argument("--output", type=Path, default=today, help="the report's file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
