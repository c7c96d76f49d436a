"""The files of the repository that are generated from its code, and whether they are current.

`python -m testbed.generated` complains of the outdated ones; `make crd` renews them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from testbed import reference
from testbed.state import CHECKOUT
from workpool_operator.api import crd

CHART = CHECKOUT / "charts" / "workpool-operator"
VALUES_SCHEMA = CHART / "values.schema.json"
REFERENCE = CHECKOUT / "docs" / "reference.md"
#: The same CRD for both ways to install it: kustomize and Helm take no file above their folder.
CRD_FILES = (CHECKOUT / "manifests" / "base" / "crd.yaml", CHART / "crds" / "crd.yaml")


def files() -> dict[Path, str]:
    """What each of them has to hold."""
    return {
        **{file: crd.render() for file in CRD_FILES},
        VALUES_SCHEMA: _values_schema(),
        REFERENCE: reference.render(),
    }


def write() -> None:
    for file, text in files().items():
        file.write_text(text)


def outdated() -> list[Path]:
    current = files()
    return [file for file in current if not file.exists() or file.read_text() != current[file]]


def _values_schema() -> str:
    """The file as it is, with the binding's spec as the CRD has it."""
    schema: dict[str, Any] = json.loads(VALUES_SCHEMA.read_text())
    schema["definitions"]["spec"] = _closed(crd.schema()["properties"]["spec"])
    return json.dumps(schema, indent=2) + "\n"


def _closed(node: Mapping[str, Any]) -> dict[str, Any]:
    """A structural schema as a plain JSON schema that refuses what it does not know."""
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


# CEL that a JSON schema can say, too; what compares with `oldSelf` it cannot.
_MATCHES = re.compile(r"(!?)self\.matches\(r'(.*)'\)")
_NOT_EMPTY = "self.size() > 0"
_REQUIRED = re.compile(r"has\(self\.(\w+)\.(\w+)\)")
_EXCLUSIVE = re.compile(
    r"(?:!has\(self\.\w+\) \|\| )?!\(has\(self\.(\w+)\.(\w+)\) && has\(self\.\1\.(\w+)\)\)"
)


def _rules(node: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The CEL rules of a structural schema, as far as a JSON schema can say them."""
    for rule in node.get("x-kubernetes-validations", ()):
        expression = rule["rule"]
        if match := _MATCHES.fullmatch(expression):
            pattern = {"pattern": _without_flags(match[2])}
            yield {"not": pattern} if match[1] else pattern
        elif expression == _NOT_EMPTY:
            yield {"minItems": 1}
        elif match := _REQUIRED.fullmatch(expression):
            yield {"properties": {match[1]: {"required": [match[2]]}}}
        elif match := _EXCLUSIVE.fullmatch(expression):
            yield {"properties": {match[1]: {"not": {"required": [match[2], match[3]]}}}}


def _without_flags(pattern: str) -> str:
    """JavaScript's expressions, which editors read a JSON schema with, have no `(?i)`."""
    if not pattern.startswith("(?i)"):
        return pattern
    letters = pattern.removeprefix("(?i)")
    return re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", letters)


if __name__ == "__main__":
    names = [str(file.relative_to(CHECKOUT)) for file in outdated()]
    sys.exit(f"not what the model says: {', '.join(names)}; run 'make crd'" if names else 0)
