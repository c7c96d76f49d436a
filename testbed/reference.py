"""docs/reference.md: every field of a WorkPoolBinding, from the CRD's own schema, with an example
from examples/every-field.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from testbed.state import CHECKOUT
from workpool_operator.api import crd

_HEAD = """\
<!-- Made by `make crd` from api/v1alpha1.py: change that file instead. -->
# Fields of a WorkPoolBinding

`kubectl explain wpb.spec --recursive` shows the same, and [`workpool-operator
validate`](commands.md#validate-before-you-apply) checks a binding before you apply it. Each
`secretKeyRef` and `configMapKeyRef` has two required fields: the `name` of the Secret or ConfigMap,
and the `key` in its data; in `jobs.env` they can also be `optional`. The examples are those of
[examples/every-field.yaml](../examples/every-field.yaml).
"""
_TABLE = """\
| field | type | meaning |
|---|---|---|
"""
_EXAMPLES = CHECKOUT / "examples" / "every-field.yaml"

Schema = Mapping[str, Any]


def render() -> str:
    """Return the page as Markdown."""
    top = crd.schema()["properties"]
    return "\n".join([_HEAD, *_sections("spec", top["spec"]), *_sections("status", top["status"])])


@cache
def examples() -> list[Any]:
    """Return the bindings from which the examples are taken."""
    return list(yaml.safe_load_all(_EXAMPLES.read_text()))


def example(path: str) -> Any:
    """Return the first value that a binding of the examples has at the path (`spec.a[].b`); None if
    there is none."""
    found = (value for binding in examples() for value in _values(binding, path.split(".")))
    return next(found, None)


def _values(node: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield node
        return
    name, rest = path[0].removesuffix("[]"), path[1:]
    if not isinstance(node, Mapping) or name not in node:
        return
    for item in node[name] if path[0].endswith("[]") else [node[name]]:
        yield from _values(item, rest)


def _sections(path: str, node: Schema) -> Iterator[str]:
    """Yield a table of the part's own fields, then the sections of the parts below it."""
    parts = {name: field for name, field in node["properties"].items() if _is_part(field)}
    rows = "".join(
        row
        for name, field in node["properties"].items()
        if name not in parts
        for row in _rows(name, field, within=path, required=name in node.get("required", ()))
    )
    yield f"## {path}\n\n{node['description']}\n" + (f"\n{_TABLE}{rows}" if rows else "")
    for name, part in parts.items():
        yield from _sections(f"{path}.{name}", part)


def _is_part(node: Schema) -> bool:
    """Whether it is a group of fields with a meaning each, not a way to one value."""
    fields = node.get("properties", {})
    return bool(fields) and not any(name.endswith("KeyRef") for name in fields)


def _rows(path: str, node: Schema, *, within: str, required: bool) -> Iterator[str]:
    meaning = [*(["**Required.**"] if required else []), node["description"]]
    meaning += [f"Rule: {rule['message']}." for rule in node.get("x-kubernetes-validations", ())]
    if within.startswith("spec"):
        meaning.append(f"Example: `{_inline(example(f'{within}.{path}'))}`.")
    yield f"| `{path}` | {_type(node)} | {' '.join(meaning)} |\n"
    if path.endswith("KeyRef"):
        return
    inner, path = (node["items"], f"{path}[]") if "items" in node else (node, path)
    for name, field in inner.get("properties", {}).items():
        required = name in inner.get("required", ())
        yield from _rows(f"{path}.{name}", field, within=within, required=required)


def _type(node: Schema) -> str:
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    kind = node.get("type", "any")
    if "items" in node:
        return f"list of {node['items']['type']}s"
    if "minimum" in node and "maximum" in node:
        return f"{kind}, {node['minimum']} to {node['maximum']}"
    return f"{kind}, {node['format']}" if "format" in node else str(kind)


def _inline(value: Any) -> str:
    """Return the value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
