"""Errors and warnings about a value in a document: its path, the value, what is expected. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Path = tuple[str | int, ...]
SHOWN_CHARACTERS = 80
_PART = re.compile(r"\[(\d+)\]|\[([^\]]+)\]|([^.\[\]]+)")


class Missing:
    """The value of a field that does not exist."""

    def __repr__(self) -> str:
        return "nothing"


class Size(int):
    """Stands for a value that is too long to show: its length in bytes."""

    def __repr__(self) -> str:
        return f"{int(self):,} bytes"

    @classmethod
    def of(cls, *texts: str) -> Size:
        """Return the size of all texts together, as UTF-8."""
        return cls(sum(len(t) if t.isascii() else len(t.encode("utf-8", "replace")) for t in texts))


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class FieldWarning:
    """A warning about a field: Jobs can be created, but its author may mean something else."""

    path: Path
    message: str

    @property
    def path_text(self) -> str:
        """The path as a user writes it."""
        return format_path(self.path)

    def __str__(self) -> str:
        return f"{self.path_text}: {self.message}"


@dataclass(frozen=True, slots=True)
class FieldError:
    """An error in a field; `str` gives "path: expected X, got Y".

    The value is not shown if it is marked `is_secret`, or if it is an environment variable's, which
    may be a secret. `against` is the path of the field that the value conflicts with, if any.
    """

    path: Path
    value: Any
    expected: str
    is_secret: bool = False
    against: Path = ()

    @property
    def path_text(self) -> str:
        """The path as it is written in messages."""
        return format_path(self.path)

    @property
    def problem(self) -> str:
        """The error without its path: `expected X, got Y`."""
        return f"expected {self.expected}, got {self._shown()}"

    def __str__(self) -> str:
        return f"{self.path_text}: {self.problem}"

    def _shown(self) -> str:
        if isinstance(self.value, Size):
            return repr(self.value)
        if self.is_secret or _is_environment_value(self.path):
            return f"a value of type {type(self.value).__name__}"
        text = repr(self.value)
        return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def format_path(path: Path) -> str:
    """Return the path as `a.b[0].c["d.e/f"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").isalnum() or part.startswith("$"):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def get_path(document: Any, path: Path) -> Any:
    """Return the value at the path; None if there is none."""
    for part in path:
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, list) and isinstance(part, int) and part < len(document):
            document = document[part]
        else:
            return None
    return document


def parse_path(text: str) -> Path:
    """Parse a path as `format_path` or the API server (`limits[nvidia.com/gpu]`) writes it."""
    return tuple(
        int(index) if index else key.strip('"') if key else name
        for index, key, name in _PART.findall(text)
    )


def _is_environment_value(path: Path) -> bool:
    return len(path) > 2 and path[-3] == "env" and path[-1] == "value"
