"""docs/conformance.md lists every case and names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLES = (TESTS.parent / "docs" / "conformance.md").read_text()
ROWS = re.findall(r"^\| (\d+[abc]?) \| (.+) \| (.+) \|$", TABLES, re.MULTILINE)
CASES = [str(number) for number in range(1, 72)] + ["24a", "24b", "24c"]


@cache
def functions_of(path: str) -> set[str]:
    module = ast.parse((TESTS / path).read_text())
    return {
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_one_of_the_74_cases_has_its_row() -> None:
    assert len(ROWS) == 74
    assert {number for number, _, _ in ROWS} == set(CASES)


def test_every_test_that_a_row_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLES)
    assert len(named) > 74
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (TESTS / path).exists() or name not in functions_of(path)
    ]
    assert missing == []


def test_a_case_without_a_test_says_why() -> None:
    silent = [
        number
        for number, _, tests in ROWS
        if "::" not in tests and not tests.startswith(("**Open**", "Not tested: "))
    ]
    assert silent == []


def test_a_test_that_is_named_after_a_case_is_in_its_row() -> None:
    tests_of = {number: tests for number, _, tests in ROWS}
    lost = [
        f"{path.relative_to(TESTS)}::{name}"
        for path in TESTS.rglob("test_*.py")
        for name in functions_of(str(path.relative_to(TESTS)))
        for number in re.findall(r"^test_case_(\d+[abc]?)_", name)
        if f"{path.name}::{name}`" not in tests_of.get(number, "")
    ]
    assert lost == []
