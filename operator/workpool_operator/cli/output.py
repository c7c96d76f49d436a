"""What commands print: results on standard output, notes and errors on standard error.

An error is one line. Colours only where a person reads on a terminal and NO_COLOR is not set.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
import yaml

from workpool_operator.errors import OperatorError

PROGRAM = "workpool-operator"
_NEXT_LINE = "\x85"


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What a command cannot do ends it with exit code 1."""
    try:
        yield
    except OperatorError as error:
        echo_error(str(error))
        raise typer.Exit(1) from None


@contextmanager
def silence_logs() -> Iterator[None]:
    """What libraries log is not for who asks, and has not been through the redaction."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def echo(text: str = "") -> None:
    """A line, or several, of the result."""
    typer.echo(text, color=_colour())


def echo_note(text: str) -> None:
    """What a person should know about the result."""
    typer.echo(f"{styled('note:', 'cyan')} {_line(text)}", err=True, color=_colour())


def echo_error(text: str) -> None:
    """Why there is no result, or not the one that was asked for."""
    typer.echo(f"{PROGRAM}: {styled('error:', 'red')} {_line(text)}", err=True, color=_colour())


def styled(text: str, colour: str) -> str:
    """The text in a colour, which is taken out again where none is wanted."""
    return typer.style(text, fg=colour)


def as_json(document: Any) -> str:
    """Return the document as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def as_yaml(document: Any) -> str:
    """Each scalar on the line of its key, but for text of several lines."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, width=float("inf"), allow_unicode=True
    )


class _Dumper(yaml.SafeDumper):
    """Repeats shared parts instead of pointing at them, and keeps lines as lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if _NEXT_LINE in text:  # which PyYAML writes as it is, and reads as a line's end
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _line(text: str) -> str:
    return " ".join(text.split())


def _colour() -> bool | None:
    """None leaves it to whether the stream is a terminal."""
    return False if os.environ.get("NO_COLOR") else None
