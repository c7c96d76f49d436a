"""The CustomResourceDefinition, made from the pydantic model.

pydantic's JSON schema is turned into a structural one: references inlined, optional fields without
`null`, titles dropped. Nothing is described here that the model does not say.
"""

from __future__ import annotations

from typing import Any

import yaml

from workpool_operator.api import v1alpha1

_COLUMNS = (
    ("Pool", "string", ".spec.workPool.name", 0),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Status", "string", '.status.conditions[?(@.type=="Claiming")].reason', 0),
    ("Running", "integer", ".status.runs.running", 0),
    ("Queued", "integer", ".status.runs.queued", 0),
    ("Last Poll", "date", ".status.lastPollTime", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Pending", "integer", ".status.runs.pending", 1),
    ("Server", "string", ".spec.server.url", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
)


class _Plain(yaml.SafeDumper):
    """Repeats shared parts instead of pointing at them: an anchor helps no reader of a CRD."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def manifest() -> dict[str, Any]:
    """The CRD as an object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{v1alpha1.PLURAL}.{v1alpha1.GROUP}"},
        "spec": {
            "group": v1alpha1.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": v1alpha1.KIND,
                "listKind": f"{v1alpha1.KIND}List",
                "plural": v1alpha1.PLURAL,
                "singular": v1alpha1.KIND.lower(),
                "shortNames": [v1alpha1.SHORT_NAME],
                "categories": [v1alpha1.CATEGORY],
            },
            "versions": [
                {
                    "name": v1alpha1.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": schema()},
                }
            ],
        },
    }


def render() -> str:
    """The CRD as YAML, ready for `kubectl apply -f -`."""
    text = yaml.dump(manifest(), Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True)
    return f"# Made by `workpool-operator crd`; change api/v1alpha1.py instead.\n{text}"


def schema() -> dict[str, Any]:
    """The structural OpenAPI schema of the whole object."""
    raw = v1alpha1.WorkPoolBinding.model_json_schema(by_alias=True)
    structural: dict[str, Any] = _structural(raw, raw.get("$defs", {}))
    structural["properties"]["spec"]["x-kubernetes-validations"] = v1alpha1.Spec.rules()
    structural["properties"]["status"].pop("default", None)
    return structural


def _column(name: str, type_: str, path: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": type_, "jsonPath": path}
    return column | {"priority": priority} if priority else column


def _structural(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = _resolved(node, definitions)
    if "properties" in node:
        properties = {k: _structural(v, definitions) for k, v in node["properties"].items()}
        rest = {k: v for k, v in node.items() if k not in ("properties", "title", "$defs")}
        return {**rest, "properties": properties}
    return {
        key: _structural(value, definitions)
        for key, value in node.items()
        if key not in ("title", "$defs")
    }


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The node with its reference inlined and `null` dropped; its own description wins."""
    options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:
        own = {key: value for key, value in node.items() if key != "anyOf"}
        node = {**_resolved(options[0], definitions), **own}
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        own = {key: value for key, value in node.items() if key != "$ref"}
        node = {**_resolved(target, definitions), **own}
    return {key: value for key, value in node.items() if (key, value) != ("default", None)}
