"""A document as YAML with a comment beside each of its values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workpool_operator.cli import documents, output
from workpool_operator.jobs.field_errors import Path

MOST_COLUMNS = 80  # a longer line has its comment right behind it


def with_comments(document: Any, comments: Mapping[Path, str]) -> str:
    """The document, its comments in one column as far as they go."""
    text = output.as_yaml(document)
    [read] = documents.parse_documents(text, "")
    by_line = {read.position(path).line: comment for path, comment in comments.items()}
    lines = text.splitlines()
    column = max((len(line) for line in lines if len(line) <= MOST_COLUMNS), default=0)
    return "\n".join(
        f"{line:<{column}}  {output.styled(f'# {by_line[number]}', 'bright_black')}"
        if number in by_line
        else line
        for number, line in enumerate(lines, start=1)
    )
