"""What `make check` checks, each check a program that complains; two at a time.

Promises: all of them run, and each that fails is shown with its name and everything it said.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from testbed import progress
from testbed.errors import TestbedError
from testbed.state import CHECKOUT

PROGRAMS = Path(sys.executable).parent
AT_ONCE = 2


@dataclass(frozen=True)
class Check:
    name: str
    argv: tuple[str, ...]


# The longest first.
CHECKS = (
    Check("unit tests", ("pytest", "-q", "--numprocesses=2", "tests/unit")),
    Check("types", ("mypy",)),
    Check("import contracts", ("lint-imports",)),
    Check("generated files", ("python", "-m", "testbed.generated")),
    Check("lint", ("ruff", "check")),
    Check("format", ("ruff", "format", "--check")),
)


@dataclass(frozen=True)
class Outcome:
    check: Check
    complaint: str | None
    took: str


def main() -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = []
        for outcome in pool.map(perform, CHECKS):
            verdict = "FAILED" if outcome.complaint else "ok"
            print(f"{outcome.check.name:<18}{verdict:<8}{outcome.took}", flush=True)
            outcomes.append(outcome)
    failed = [outcome for outcome in outcomes if outcome.complaint]
    for outcome in failed:
        print(f"\n--- {outcome.check.name}\n{outcome.complaint}")
    if failed:
        raise TestbedError(", ".join(outcome.check.name for outcome in failed))


def perform(check: Check) -> Outcome:
    began = time.monotonic()
    program, *arguments = check.argv
    done = subprocess.run(
        [PROGRAMS / program, *arguments], cwd=CHECKOUT, capture_output=True, text=True
    )
    said = f"{done.stdout}{done.stderr}".strip() or f"exit code {done.returncode}"
    return Outcome(check, said if done.returncode else None, progress.elapsed(began))
