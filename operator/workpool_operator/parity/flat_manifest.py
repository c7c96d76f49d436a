"""Compares two manifests of one run's Job field by field. Pure.

Promises: reports every field that is not equal, with both values unchanged. Variables of the flow's
container are compared by name; of two entries with one name Kubernetes uses the last. This module
does not know which differences are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Path = tuple[str, ...]

POD: Final = ("spec", "template", "spec")
CONTAINER: Final = (*POD, "containers", "[0]")
ENV: Final = (*CONTAINER, "env")
_METADATA = (("metadata", "labels"), ("metadata", "annotations"))


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class FlatManifest:
    """The innermost values of a manifest by path, and the order of its environment."""

    values: Mapping[Path, Any]
    variables: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> FlatManifest:
        """Flatten a manifest."""
        return cls(dict(_innermost((), manifest)), tuple(_names(_at(manifest, ENV))))

    def get(self, *path: str) -> Any:
        """Return the value at the path, or ABSENT."""
        return self.values.get(path, ABSENT)


@dataclass(frozen=True, slots=True)
class UnequalField:
    """A field with different values in two manifests."""

    path: Path
    stock: Any
    ours: Any

    @property
    def is_metadata(self) -> bool:
        """Whether it is a label or an annotation of the Job or its pods."""
        return self.path[-3:-1] in _METADATA

    @property
    def variable(self) -> str:
        """The variable of the flow's container that it belongs to; "" if there is none."""
        return self.path[len(ENV)] if self.path[: len(ENV)] == ENV != self.path else ""

    @property
    def text(self) -> str:
        """The path as a user writes it."""
        parts = (f'["{part}"]' if {"/", "."} & set(part) else part for part in self.path)
        return ".".join(parts).replace(".[", "[")


def unequal_fields(stock: FlatManifest, ours: FlatManifest) -> Iterator[UnequalField]:
    """Yield all fields that differ, by path; last, the order of the common variables."""
    paths = {*stock.values, *ours.values}
    inner = {path[:end] for path in paths for end in range(len(path))}
    for path in sorted(paths - inner):
        left, right = stock.get(*path), ours.get(*path)
        if left != right or type(left) is not type(right):
            yield UnequalField(path, left, right)
    order, other = _common(stock, ours), _common(ours, stock)
    if order != other:
        yield UnequalField(ENV, order, other)


def _common(one: FlatManifest, other: FlatManifest) -> tuple[str, ...]:
    return tuple(name for name in one.variables if name in other.variables)


def _innermost(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    inside = _inside(path, value)
    if not inside:
        yield path, value
    for key, item in inside:
        yield from _innermost((*path, key), item)


def _inside(path: Path, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, list):
        return []
    if path == ENV:
        return list(dict(zip(_names(value), value, strict=True)).items())
    return [(f"[{index}]", item) for index, item in enumerate(value)]


def _names(env: Any) -> list[str]:
    entries = env if isinstance(env, list) else []
    return [str(entry.get("name") if isinstance(entry, Mapping) else entry) for entry in entries]


def _at(document: Any, path: Path) -> Any:
    for key in path:
        document = dict(_inside((), document)).get(key)
    return document
