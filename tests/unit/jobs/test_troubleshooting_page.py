"""docs/troubleshooting.md names every sub-state of a waiting run, and every end that the operator
explains, and no others."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from testbed.state import CHECKOUT
from workpool_operator.jobs import diagnosis, disruption

PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
#: Reasons of Kubernetes' own Warnings are sub-states, too; this one stands for all of them.
OF_KUBERNETES = {"FailedCreate"}


def first_cells(section: str) -> str:
    rows = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    return "\n".join(row.split("|")[1] for row in rows if row.startswith("| "))


def sub_states() -> Iterator[str]:
    """Yield the first argument of each call that makes a WaitReason."""
    package = CHECKOUT / "operator" / "workpool_operator"
    for path in (*package.glob("jobs/*.py"), *package.glob("runs/**/*.py")):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name != "_wait":
                yield from made_by(function, importlib.import_module(name))


def made_by(function: ast.FunctionDef, module: ModuleType) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.Call(ast.Name("WaitReason" | "_wait"), [first, *_]):
                yield from values(first, module)
            case ast.Assign([ast.Name("category")], value):
                yield from values(value, module)


def values(expression: ast.expr, module: ModuleType) -> Iterator[str]:
    match expression:
        case ast.Constant(str(text)):
            yield text
        case ast.IfExp(_, one, other):
            yield from (*values(one, module), *values(other, module))
        case ast.Name(name) if name.isupper():
            yield getattr(module, name)
        case ast.Subscript(ast.Name(name)):
            yield from getattr(module, name).values()


def test_the_page_names_every_sub_state_and_no_other() -> None:
    found = set(sub_states())
    assert {"ImagePullBackOff", "SidecarNotStarted", "JobRefused", "JobSuspended"} <= found
    assert set(re.findall(r"`(\w+)`", first_cells("A run waits"))) == found | OF_KUBERNETES


def test_the_page_names_every_exit_code_and_every_disruption_that_is_explained() -> None:
    ends = first_cells("A run crashed")
    codes = {int(code) for code in re.findall(r"\b\d+\b", ends)}
    assert codes == {0, *diagnosis._EXIT_CODES}
    named = set(re.findall(r"`([A-Z]\w+)`", ends))
    assert named >= set(disruption._DISRUPTED) | {"OOMKilled", "Evicted", "ContainerStatusUnknown"}


def test_what_the_page_quotes_of_a_crash_is_in_the_code() -> None:
    package = CHECKOUT / "operator" / "workpool_operator"
    code = "".join(path.read_text() for path in Path(package).rglob("*.py"))
    for words in re.findall(r"`([A-Z]\w+)`", first_cells("A run crashed")):
        assert f"{words}" in code
