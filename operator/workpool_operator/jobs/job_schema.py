"""The types of a Job's fields, read once per process from the models of the Kubernetes client.

The models' own validation and serialisation are not used: they take 35 times the CPU of a walk and
stop at the first error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from kubernetes_asyncio.client import models

Kind = Literal["mapping", "list", "text", "integer", "boolean", "quantity", "port", "any"]

# The models do not have the width of an integer, and do not mark quantities.
_WIDE = frozenset(
    {
        "activeDeadlineSeconds",
        "deletionGracePeriodSeconds",
        "expirationSeconds",
        "fsGroup",
        "generation",
        "observedGeneration",
        "runAsGroup",
        "runAsUser",
        "seconds",
        "supplementalGroups",
        "terminationGracePeriodSeconds",
        "tolerationSeconds",
    }
)
_QUANTITIES = frozenset({"limits", "requests", "overhead", "sizeLimit", "divisor"})
_SCALARS: Mapping[str, Kind] = {
    "str": "text",
    "int": "integer",
    "bool": "boolean",
    "datetime": "text",
}
# The fields that the API server requires. It has defaults for some that the models require.
_REQUIRED = {
    "V1Job": ("apiVersion", "kind", "spec"),
    "V1JobSpec": ("template",),
    "V1PodTemplateSpec": ("spec",),
    "V1PodSpec": ("containers", "restartPolicy"),
    "V1Container": ("name", "image"),
    "V1EnvVar": ("name",),
    "V1ContainerPort": ("containerPort",),
    "V1ConfigMapKeySelector": ("key",),
    "V1ObjectFieldSelector": ("fieldPath",),
    "V1ResourceFieldSelector": ("resource",),
    "V1SecretKeySelector": ("key",),
    "V1Volume": ("name",),
    "V1VolumeMount": ("name", "mountPath"),
}


@dataclass(slots=True)
class FieldType:
    """The type of a field. A mapping with fixed keys has `fields`; others, and lists, `items`."""

    kind: Kind
    name: str = ""
    fields: dict[str, FieldType] = field(default_factory=dict)
    items: FieldType | None = None
    required: tuple[str, ...] = ()
    bits: int = 32


@cache
def job_type() -> FieldType:
    """Return the type of a whole Job."""
    return _of_model("V1Job", {})


def _of_model(name: str, known: dict[str, FieldType]) -> FieldType:
    if name not in known:
        shape = known[name] = FieldType("mapping", name, required=_REQUIRED.get(name, ()))
        model = getattr(models, name)
        for attribute, type_name in model.openapi_types.items():
            key = model.attribute_map[attribute]
            shape.fields[key] = _of_type(type_name, key, known)
    return known[name]


def _of_type(type_name: str, key: str, known: dict[str, FieldType]) -> FieldType:
    if type_name.startswith("list["):
        return FieldType("list", items=_of_type(type_name[5:-1], key, known))
    if type_name.startswith("dict("):
        items = type_name[5:-1].partition(",")[2].strip()
        return FieldType("mapping", items=_of_type(items, key, known))
    if hasattr(models, type_name):
        return _of_model(type_name, known)
    if key in _QUANTITIES:
        return FieldType("quantity")
    names_or_counts = key == "port" and type_name == "object"
    kind: Kind = "port" if names_or_counts else _SCALARS.get(type_name, "any")
    return FieldType(kind, bits=64 if key in _WIDE else 32)
