"""The files of the repository that are generated from its code.

`python -m testbed.generated` fails if one is outdated; `make crd` writes them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from testbed import chart_values, rbac, reference, settings_table, version, versions
from testbed.state import CHECKOUT
from workpool_operator.api import crd, v1alpha1

CHART = CHECKOUT / "charts" / "workpool-operator"
VALUES_SCHEMA = CHART / "values.schema.json"
REFERENCE = CHECKOUT / "docs" / "reference.md"
SECURITY = CHECKOUT / "docs" / "security.md"
CHART_README = CHART / "README.md"
CHART_VALUES = CHART / "values.yaml"
RBAC = CHECKOUT / "manifests" / "base" / "rbac.yaml"
NAMESPACED_RBAC = CHECKOUT / "manifests" / "namespaced" / "rbac.yaml"
CHART_RULES = CHART / "templates" / "_rules.tpl"
COMPATIBILITY = CHECKOUT / "docs" / "compatibility.md"
SETTINGS = CHECKOUT / "docs" / "settings.md"
#: The same CRD for both ways to install it: kustomize and Helm take no file above their folder.
CRD_FILES = (CHECKOUT / "manifests" / "base" / "crd.yaml", CHART / "crds" / "crd.yaml")


def files() -> dict[Path, str]:
    """Return the content that each file should have."""
    return {
        **{file: crd.render() for file in CRD_FILES},
        VALUES_SCHEMA: _values_schema(),
        REFERENCE: reference.render(),
        **version.repeated(),
        RBAC: rbac.manifest(),
        NAMESPACED_RBAC: rbac.namespaced_manifest(),
        CHART_RULES: rbac.chart_rules(),
        CHART_README: _with_table(CHART_README.read_text(), chart_values.table(CHART_VALUES)),
        SECURITY: _with_table(SECURITY.read_text(), rbac.table()),
        SETTINGS: _with_table(SETTINGS.read_text(), settings_table.table()),
        COMPATIBILITY: _with_table(COMPATIBILITY.read_text(), versions.table(versions.read())),
    }


def write() -> None:
    for file, text in files().items():
        file.write_text(text)


def outdated() -> list[Path]:
    current = files()
    return [file for file in current if not file.exists() or file.read_text() != current[file]]


def _with_table(page: str, table: str) -> str:
    """Return the page with the table in place of its only one with the same head."""
    head = table.partition("\n")[0]
    before, _, rest = page.partition(head)
    _, between, after = rest.partition("\n\n")
    return before + table + between[1:] + after


def _values_schema() -> str:
    """Return the present file with the spec of a binding as the CRD has it, and the descriptions of
    values.yaml."""
    schema: dict[str, Any] = json.loads(VALUES_SCHEMA.read_text())
    chart_values.describe(schema, CHART_VALUES)
    schema["definitions"]["spec"] = _closed(crd.schema()["properties"]["spec"])
    return json.dumps(schema, indent=2) + "\n"


def _closed(node: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a structural schema into a plain JSON schema that refuses unknown fields."""
    plain = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if node.get("x-kubernetes-list-type") == "set":
        plain["uniqueItems"] = True
    if rules := list(_rules(node)):
        plain["allOf"] = rules
    if "items" in node:
        plain["items"] = _closed(node["items"])
    if "properties" in node:
        plain["properties"] = {name: _closed(part) for name, part in node["properties"].items()}
        plain["additionalProperties"] = False
    return plain


# The CEL rules that a JSON schema can express; it cannot compare with `oldSelf`.
_MATCHES = re.compile(r"(!?)self\.matches\(r'(.*)'\)")
_NOT_EMPTY = "self.size() > 0"
_ONE_OF_TWO = re.compile(r"has\(self\.(?:\w+\.)?(\w+)\) != has\(self\.(?:\w+\.)?(\w+)\)")
_ONE_ADDRESS = f"has(self.workPool.ref) || {v1alpha1.ADDRESSES} == 1"
_EXCLUSIVE = re.compile(
    r"(?:!has\(self\.\w+\) \|\| )?!\(has\(self\.(\w+)\.(\w+)\) && has\(self\.\1\.(\w+)\)\)"
)


def _rules(node: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Translate the CEL rules of a structural schema, as far as a JSON schema can express them."""
    for rule in node.get("x-kubernetes-validations", ()):
        expression = rule["rule"]
        if match := _MATCHES.fullmatch(expression):
            pattern = {"pattern": _without_flags(match[2])}
            yield {"not": pattern} if match[1] else pattern
        elif expression == _NOT_EMPTY:
            yield {"minItems": 1}
        elif match := _ONE_OF_TWO.fullmatch(expression):
            one = {"oneOf": [{"required": [name]} for name in match.groups()]}
            part = rule.get("fieldPath", "").removeprefix(".")
            yield {"properties": {part: one}} if part else one
        elif expression == _ONE_ADDRESS:
            names = re.findall(r"self\.server\.(\w+)", expression)
            server = {"oneOf": [{"required": [name]} for name in names]}
            named = {"required": ["server"], "properties": {"server": server}}
            yield {"anyOf": [{"properties": {"workPool": {"required": ["ref"]}}}, named]}
        elif match := _EXCLUSIVE.fullmatch(expression):
            yield {"properties": {match[1]: {"not": {"required": [match[2], match[3]]}}}}


def _without_flags(pattern: str) -> str:
    """Spell out `(?i)`: editors read a JSON schema with JavaScript, which does not have it."""
    if not pattern.startswith("(?i)"):
        return pattern
    letters = pattern.removeprefix("(?i)")
    return re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", letters)


if __name__ == "__main__":
    if names := ", ".join(str(file.relative_to(CHECKOUT)) for file in outdated()):
        sys.exit(f"outdated, not generated from the current code: {names}; run 'make crd'")
