"""docs/status.md names each condition and reason that a binding's status can have, and no fault
that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import workpool_operator.binding
from workpool_operator.binding import conditions
from workpool_operator.binding.key_reference import FORBIDDEN

PACKAGE = Path(next(iter(workpool_operator.binding.__path__)))
DOCS = Path(__file__).parents[3] / "docs"
STATUS = (DOCS / "status.md").read_text()
FAULTS = STATUS.partition("## Conditions and reasons")[2].partition(
    "### Conditions that only inform"
)[0]
OTHER_REASONS = {"NotChecked", "LeaseForbidden", "InvalidSpec", "InternalError"}


def reasons() -> Iterator[str]:
    """Yield the reasons of all faults; those of a KeyReference start with the object's kind."""
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            match node.func:
                case ast.Name("BindingFault"):
                    yield from texts(node.args[1])
                case ast.Attribute(attr="_fault"):
                    ends = list(texts(node.args[0])) or [FORBIDDEN]
                    yield from (f"{kind}{end}" for kind in ("Secret", "ConfigMap") for end in ends)


def texts(expression: ast.expr) -> Iterator[str]:
    match expression:
        case ast.Constant(str(text)):
            yield text
        case ast.IfExp():
            yield from texts(expression.body)
            yield from texts(expression.orelse)


def named(text: str) -> set[str]:
    first_cells = "\n".join("|".join(row.split("|")[:3]) for row in text.splitlines())
    return set(re.findall(r"`([A-Z][A-Za-z]+)`", first_cells))


def test_the_page_names_every_reason_of_a_fault() -> None:
    found = set(reasons())
    assert {"PollFailed", "SecretNotFound", "ConfigMapForbidden"} <= found
    assert sorted(found - named(FAULTS)) == []


def test_the_page_names_no_reason_that_does_not_exist() -> None:
    conditions = set(re.findall(r"^\| `([A-Za-z]+)` ", FAULTS, re.MULTILINE)) | {"Ready"}
    assert sorted(named(FAULTS) - conditions - set(reasons()) - OTHER_REASONS) == []


def test_the_page_names_every_other_reason_and_every_condition() -> None:
    found = set()
    for folder in ("binding", "runs"):
        for path in (PACKAGE.parent / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(ast.Name("ConditionState"), [_, reason, *_]):
                        found |= set(texts(reason))
                    case ast.Call(ast.Name("Shortage"), [reason, *_]):
                        found |= set(texts(reason))
    assert {"Polling", "AtCapacity", "OtherBinding", "RightsMissing"} <= found
    types = {
        value
        for name, value in vars(conditions).items()
        if isinstance(value, str) and value.upper() == name.replace("_", "")
    }
    assert {"Ready", "PoolShared"} <= types
    assert sorted(each for each in found | types if f"`{each}`" not in STATUS) == []
