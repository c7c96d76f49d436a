"""Tables and lists in Markdown that also read well as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def numbers(values: Mapping[str, float]) -> str:
    """Return a list of numbers with their names."""
    return "\n".join(f"- {value:.2f} {name}" for name, value in values.items()) or "- none"
