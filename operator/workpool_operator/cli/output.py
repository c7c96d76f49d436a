"""Prints results on standard output, notes and errors on standard error.

An error is one line. Colours appear only on a terminal, and only if NO_COLOR is not set.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
import yaml

from workpool_operator.errors import OperatorError
from workpool_operator.jobs import documents
from workpool_operator.jobs.field_errors import Path

PROGRAM = "workpool-operator"
COMMENT_COLUMN = 80  # the comment of a longer line follows it directly
_UNICODE_LINE_BREAKS = frozenset("\x85\u2028\u2029")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Print an OperatorError as one line, and exit with 1."""
    try:
        yield
    except OperatorError as error:
        echo_error(str(error))
        raise typer.Exit(1) from None


@contextmanager
def silence_logs() -> Iterator[None]:
    """Suppress the logs of libraries, which are not redacted."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a part of the result, or with `err` a line about it."""
    typer.echo(text, err=err, color=_colour())


def echo_note(text: str) -> None:
    """Print a note about the result in one line."""
    typer.echo(f"{styled('note:', 'cyan')} {_line(text)}", err=True, color=_colour())


def echo_error(text: str) -> None:
    """Print an error in one line."""
    typer.echo(f"{PROGRAM}: {styled('error:', 'red')} {_line(text)}", err=True, color=_colour())


def styled(text: str, colour: str) -> str:
    """Return the text in a colour; printing removes it if the output has no colours."""
    return typer.style(text, fg=colour)


def as_json(document: Any) -> str:
    """Return the document as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def as_yaml(document: Any) -> str:
    """Return the document as YAML, each scalar without a line break on the line of its key."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, width=float("inf"), allow_unicode=True
    )


def as_commented_yaml(document: Any, comments: Mapping[Path, str]) -> str:
    """Return the document as YAML, with a comment next to each value that `comments` names.

    Comments start in one column, except next to lines longer than COMMENT_COLUMN.
    """
    text = as_yaml(document)
    [parsed] = documents.parse_documents(text, "")
    by_line = {parsed.position(path).line: comment for path, comment in comments.items()}
    lines = text.splitlines()
    column = max((len(line) for line in lines if len(line) <= COMMENT_COLUMN), default=0)
    return "".join(
        f"{line:<{column}}  {styled(f'# {by_line[number]}', 'bright_black')}\n"
        if number in by_line
        else f"{line}\n"
        for number, line in enumerate(lines, start=1)
    )


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if _UNICODE_LINE_BREAKS & set(text):  # PyYAML would write them as they are, as line breaks
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _line(text: str) -> str:
    return " ".join(text.split())


def _colour() -> bool | None:
    """Return False if NO_COLOR is set; None lets click look for a terminal."""
    return False if os.environ.get("NO_COLOR") else None
