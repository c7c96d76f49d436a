"""What is wrong with a value in a document: where it is, what it is, and what is expected. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Path = tuple[str | int, ...]
SHOWN_CHARACTERS = 80
_PART = re.compile(r"\[(\d+)\]|\[([^\]]+)\]|([^.\[\]]+)")


class Missing:
    """The value of what is not there."""

    def __repr__(self) -> str:
        return "nothing"


class Size(int):
    """The value of what is too long to be shown: its length in bytes."""

    def __repr__(self) -> str:
        return f"{int(self):,} bytes"

    @classmethod
    def of(cls, *texts: str) -> Size:
        """Of the texts together, as UTF-8."""
        return cls(sum(len(t) if t.isascii() else len(t.encode("utf-8", "replace")) for t in texts))


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class FieldWarning:
    """Something at a place that makes Jobs, and hardly is what its author meant."""

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
    """One fault; as text, one clause for a person. A value that `is_secret` is not shown, and that
    of an environment variable never is: it may be a secret. `against` is the other place without
    which the value would be no fault, if there is one."""

    path: Path
    value: Any
    expected: str
    is_secret: bool = False
    against: Path = ()

    @property
    def path_text(self) -> str:
        """The path as one writes it."""
        return format_path(self.path)

    @property
    def problem(self) -> str:
        """What is expected, and what is there instead."""
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
    """`a.b[0].c["d.e/f"]`."""
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
    """What is at the path; None where nothing is."""
    for part in path:
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, list) and isinstance(part, int) and part < len(document):
            document = document[part]
        else:
            return None
    return document


def parse_path(text: str) -> Path:
    """The path that is written so, or as the API server writes one: `limits[nvidia.com/gpu]`."""
    return tuple(
        int(index) if index else key.strip('"') if key else name
        for index, key, name in _PART.findall(text)
    )


def _is_environment_value(path: Path) -> bool:
    return len(path) > 2 and path[-3] == "env" and path[-1] == "value"
