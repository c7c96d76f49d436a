"""Validates manifests with the OpenAPI schema of a Kubernetes release, unknown fields included."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft4Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

from testbed import kubernetes_schemas

Object = dict[str, Any]

_URI = "urn:kubernetes"
_KINDS = "x-kubernetes-group-version-kind"
#: The API server accepts numbers for these, too.
_TEXTS = (
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
)


def faults(manifest: Object, release: str) -> list[str]:
    """Return the errors of a manifest, each with its path. A kind that the release does not have is
    one, too."""
    kinds, registry = _release(release)
    kind = manifest["kind"]
    name = kinds.get((manifest["apiVersion"], kind))
    if name is None:
        return [f"{release} has no {manifest['apiVersion']} {kind}"]
    validator = Draft4Validator({"$ref": f"{_URI}#/definitions/{name}"}, registry=registry)
    where = f"{kind} {manifest['metadata']['name']}"
    return [
        f"{where} {'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator.iter_errors(manifest)
    ]


@cache
def _release(release: str) -> tuple[dict[tuple[str, str], str], Registry[Any]]:
    """Return the definition of each kind by API version and name, and all definitions."""
    definitions = kubernetes_schemas.definitions(release)
    kinds = {}
    for name, node in definitions.items():
        for each in node.get(_KINDS, ()):
            version = "/".join(part for part in (each["group"], each["version"]) if part)
            kinds[version, each["kind"]] = name
        if "properties" in node:
            node.setdefault("additionalProperties", False)
    for name in _TEXTS:
        definitions[name]["type"] = ["string", "number"]
    resource = DRAFT4.create_resource({"definitions": definitions})
    return kinds, Registry().with_resource(_URI, resource)
