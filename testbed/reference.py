"""docs/reference.md: every field of a WorkPoolBinding, from the CRD's own schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workpool_operator.api import crd

_HEAD = """\
<!-- Made by `make crd` from api/v1alpha1.py: change that file instead. -->
# Fields of a WorkPoolBinding

`kubectl explain wpb.spec --recursive` shows the same, and [`workpool-operator
validate`](commands.md#validate-before-you-apply) checks a binding before you apply it. Each
`secretKeyRef` and `configMapKeyRef` has two required fields: the `name` of the Secret or ConfigMap,
and the `key` in its data; in `jobs.env` they can also be `optional`.
"""
_TABLE = """\
| field | type | meaning |
|---|---|---|
"""

Schema = Mapping[str, Any]


def render() -> str:
    """Return the page as Markdown."""
    top = crd.schema()["properties"]
    return "\n".join([_HEAD, *_sections("spec", top["spec"]), *_sections("status", top["status"])])


def _sections(path: str, node: Schema) -> Iterator[str]:
    """Yield a table of the part's own fields, then the sections of the parts below it."""
    parts = {name: field for name, field in node["properties"].items() if _is_part(field)}
    rows = "".join(
        row
        for name, field in node["properties"].items()
        if name not in parts
        for row in _rows(name, field, required=name in node.get("required", ()))
    )
    yield f"## {path}\n\n{node['description']}\n" + (f"\n{_TABLE}{rows}" if rows else "")
    for name, part in parts.items():
        yield from _sections(f"{path}.{name}", part)


def _is_part(node: Schema) -> bool:
    """Whether it is a group of fields with a meaning each, not a way to one value."""
    fields = node.get("properties", {})
    return bool(fields) and not any(name.endswith("KeyRef") for name in fields)


def _rows(path: str, node: Schema, *, required: bool) -> Iterator[str]:
    meaning = [*(["**Required.**"] if required else []), node["description"]]
    meaning += [f"Rule: {rule['message']}." for rule in node.get("x-kubernetes-validations", ())]
    yield f"| `{path}` | {_type(node)} | {' '.join(meaning)} |\n"
    if path.endswith("KeyRef"):
        return
    inner, path = (node["items"], f"{path}[]") if "items" in node else (node, path)
    for name, field in inner.get("properties", {}).items():
        yield from _rows(f"{path}.{name}", field, required=name in inner.get("required", ()))


def _type(node: Schema) -> str:
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    kind = node.get("type", "any")
    if "items" in node:
        return f"list of {node['items']['type']}s"
    if "minimum" in node and "maximum" in node:
        return f"{kind}, {node['minimum']} to {node['maximum']}"
    return f"{kind}, {node['format']}" if "format" in node else str(kind)
