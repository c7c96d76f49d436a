"""A template of 1 MiB delays its own binding for a moment, and no other binding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.template_cost import STALL_SECONDS, TEMPLATES

LOOK_COPIES = 100  # deep copies of such a template: 2 s on a machine where one takes 20 ms
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def costs() -> dict[str, tuple[float, float]]:
    """Run in a separate process: the memory of a test run makes garbage collection slow."""
    command = [sys.executable, "-m", "tests.support.template_cost"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[float, float]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("template", [make.__name__ for make in TEMPLATES])
def test_validating_a_template_of_1_mib_is_short_and_does_not_block_the_event_loop(
    costs: dict[str, tuple[float, float]], template: str
) -> None:
    look, stall = costs[template]
    assert look < LOOK_COPIES
    assert stall < STALL_SECONDS
