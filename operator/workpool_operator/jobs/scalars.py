"""Converts scalars to strings as authors of YAML expect. Pure."""

from __future__ import annotations

from typing import Any


def text(value: Any) -> str:
    """Return `false` for False, as YAML does and Python does not, and "" for null, as Kubernetes
    does."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
