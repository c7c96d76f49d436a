"""The files of manifests/ and charts/ that repeat the binding's model, made from it.

`python -m testbed.packaging` writes them; a unit test compares them with what this module makes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.state import CHECKOUT
from workpool_operator.binding import crd

CRD = CHECKOUT / "manifests" / "base" / "crd.yaml"
CHART = CHECKOUT / "charts" / "workpool-operator"
CHART_CRD = CHART / "crds" / "crd.yaml"
VALUES_SCHEMA = CHART / "values.schema.json"


def files() -> dict[Path, str]:
    """What each of the files has to hold."""
    return {CRD: crd.render(), CHART_CRD: crd.render(), VALUES_SCHEMA: _values_schema()}


def _values_schema() -> str:
    """The file as it is, with the binding's spec as the CRD has it."""
    schema: dict[str, Any] = json.loads(VALUES_SCHEMA.read_text())
    schema["definitions"]["spec"] = closed(crd.schema()["properties"]["spec"])
    return json.dumps(schema, indent=2) + "\n"


def closed(node: Mapping[str, Any]) -> dict[str, Any]:
    """A structural schema as a plain JSON schema that refuses what it does not know."""
    plain = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if node.get("x-kubernetes-list-type") == "set":
        plain["uniqueItems"] = True
    if "items" in node:
        plain["items"] = closed(node["items"])
    if "properties" in node:
        plain["properties"] = {name: closed(part) for name, part in node["properties"].items()}
        plain["additionalProperties"] = False
    return plain


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
