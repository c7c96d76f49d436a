"""Scalars of YAML and JSON as the text that somebody who writes YAML expects. Pure."""

from __future__ import annotations

from typing import Any


def text(value: Any) -> str:
    """`false` for False, as in YAML, and not Python's `False`; null is the empty text, as it is for
    Kubernetes."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
