"""Fields of a binding that messages and pages name, compared with the schema of the CRD."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.state import CHECKOUT
from workpool_operator.api import crd

SCHEMA: dict[str, Any] = crd.schema()["properties"]["spec"]
PATH = re.compile(r"\bspec\.[a-z][\w.\[\]]*\w")
#: Fields of other objects that are named in the same form.
OF_OTHERS = {
    "a Job or a pod": re.compile(
        r"spec\.(template|containers|ttlSeconds\w*|backoffLimit\w*|completions|completionMode"
        r"|parallelism|podReplacementPolicy|podFailurePolicy|activeDeadlineSeconds|nodeName)\b"
    ),
    "a PrefectWorkPool": re.compile(r"spec\.server\.(name|namespace|remoteApiUrl|accountId)$"),
}
#: What a page shows as a mistake.
MISTAKES = {"spec.workQueue"}


def in_code(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from PATH.findall(node.value)


def in_page(file: Path) -> Iterator[str]:
    yield from PATH.findall(file.read_text())


def is_field(path: str) -> bool:
    """Whether a binding has the field; an index stands for any item of a list."""
    schema = SCHEMA
    for name in re.sub(r"\[\d*\]?", ".items", path).split(".")[1:]:
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return True
        inner = schema.get("items") if name == "items" else schema.get("properties", {}).get(name)
        if inner is None:
            return False
        schema = inner
    return True


SOURCES = [
    *((file, in_code) for file in (CHECKOUT / "operator").rglob("*.py")),
    *((file, in_page) for file in (CHECKOUT / "charts").rglob("templates/*")),
    *((file, in_page) for file in CHECKOUT.glob("docs/*.md")),
    (CHECKOUT / "README.md", in_page),
]


def test_every_field_of_a_binding_that_is_named_exists():
    named = {
        (path, str(file.relative_to(CHECKOUT)))
        for file, paths in SOURCES
        if file.is_file()
        for path in paths(file)
        if path not in MISTAKES and not any(other.match(path) for other in OF_OTHERS.values())
    }
    assert len({path for path, _ in named}) > 30
    assert sorted(each for each in named if not is_field(each[0])) == []


@pytest.mark.parametrize("path", ["spec.jobs.namespaces", "spec.server.headers[0].nam", "spec.job"])
def test_a_path_that_is_not_in_the_schema_is_noticed(path):
    assert not is_field(path)
