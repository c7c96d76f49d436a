"""The modules that call themselves pure are those that the import contract keeps pure."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
SOURCES = CHECKOUT / "operator"


def say_pure() -> set[str]:
    """The modules whose docstring has the word."""
    return {
        ".".join(file.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
        for file in SOURCES.rglob("*.py")
        if re.search(r"\bPure\b", ast.get_docstring(ast.parse(file.read_text())) or "")
    }


def test_the_contract_of_pure_modules_lists_exactly_the_pure_modules() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (pure,) = (each for each in contracts if "Pure" in each["name"])
    listed = pure["source_modules"]
    assert listed == sorted(set(listed))
    assert set(listed) == say_pure()
