"""The chart's values, as values.yaml describes them: the table in its README, and the descriptions
in its schema.

A comment above a key is its description. Indented comment lines are examples, `# ---` lines are
headings; neither is part of a description.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]

TABLE_HEAD = """\
| value | default | meaning |
|---|---|---|
"""
_KEY = re.compile(r"( *)([A-Za-z]+):")
_COMMENT = re.compile(r" *# (?! {2}|---)(.*)")


@dataclass(frozen=True, slots=True)
class Value:
    """One value: its path such as `image.tag`, its default, and what its comment says."""

    path: str
    default: Any
    meaning: str


def values(file: Path) -> list[Value]:
    """Return the values that have a description, in the order of the file."""
    text = file.read_text()
    defaults = yaml.safe_load(text)
    return [
        Value(path, _at(defaults, path), meaning) for path, meaning in _described(text.splitlines())
    ]


def _described(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the path and the comment of each key that has one."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in lines:
        if match := _COMMENT.match(line):
            comment.append(match[1])
        elif match := _KEY.match(line):
            depth = len(match[1])
            path = [*(part for part in path if part[0] < depth), (depth, match[2])]
            if comment:
                yield ".".join(name for _, name in path), " ".join(comment)
            comment = []
        elif not line.strip():
            comment = []


def _at(defaults: Any, path: str) -> Any:
    for name in path.split("."):
        defaults = defaults[name]
    return defaults


def table(file: Path) -> str:
    """Return the values as a Markdown table."""
    rows = (
        f"| `{value.path}` | {_cell(value.default)} | {value.meaning} |\n" for value in values(file)
    )
    return TABLE_HEAD + "".join(rows)


def _cell(default: Any) -> str:
    return f"`{json.dumps(default)}`" if default not in ("", None) else ""


def describe(schema: Schema, file: Path) -> None:
    """Write the descriptions into the schema, whose other keywords are kept."""
    for value in values(file):
        node = schema
        for name in value.path.split("."):
            node = node["properties"][name]
        node["description"] = value.meaning
