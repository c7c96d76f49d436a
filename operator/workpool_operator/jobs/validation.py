"""Finds all errors of a Job's manifest at once. Pure, and fast enough for every run.

It reports what the API server would refuse without a path (wrong types, quantities), what the API
server does not check (an invalid image reference: docs/races.md, 29), and common errors, for
commands that run without a cluster. The API server refuses the rest, with a path.

It refuses only what the API server refuses, with four exceptions: a restart policy that would hide
the end of a run, a deadline of 0 s, a quantity without a number, and text that is too long to start
a process with. Unknown fields are not errors: the API server drops them, and stock templates have
some.

Its field types are those of the Kubernetes client's models, read once per process. The models' own
validation takes 35 times the CPU of a walk and stops at the first error, so it is not used.

Quantities, image references and names are valid exactly if Kubernetes and container runtimes accept
them. One exception: Kubernetes takes a quantity without a number, such as the `Gi` of
`{{ memory }}Gi` without a value, for 0. Here it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from math import isfinite
from typing import Any, Literal

from kubernetes_asyncio.client import models

from workpool_operator.jobs.field_errors import MISSING, FieldError, Path, Size

# What Kubernetes accepts as a quantity, an image reference and a name

QUANTITY = "a quantity, such as 500m, 2 or 1Gi"
IMAGE = "an image reference, [registry/]name[:tag][@digest] in lower case"
ENV_NAME = "the name of an environment variable: printable ASCII without '='"
LABEL_NAME = "a name of at most 63 lower case letters, digits and '-'"
SUBDOMAIN = "a name of at most 253 lower case letters, digits, '-' and '.'"
LABEL_KEY = (
    "a label key: [prefix/]name, with a name of at most 63 letters, digits, '-', '_' and '.'"
)
LABEL_VALUE = "a label value: at most 63 letters, digits, '-', '_' and '.'"

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?\d*\.?\d*)(?:(?P<unit>[KMGTPE]i|[numkMGTPE]|)|[eE](?P<power>[+-]?\d+))",
    re.ASCII,
)
_ENV_NAME = re.compile(r"[ -<>-~]+")
_SUBDOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
)
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")

_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_NAME_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_NAME_PART}(?:/{_NAME_PART})*)"
    r"(?::[\w][\w.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_LONGEST_IMAGE_NAME = 255
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


def parse_quantity(value: Any) -> Decimal | None:
    """Return the amount; None if it is not a quantity."""
    if isinstance(value, bool) or (isinstance(value, float) and not isfinite(value)):
        return None
    if not isinstance(value, str | int | float):
        return None
    text = str(value).strip(" ")
    found = _QUANTITY.fullmatch(text)
    return _amount(found) if found and text else None


def _amount(found: re.Match[str]) -> Decimal | None:
    number = found["number"]
    try:
        if found["power"]:
            return Decimal(f"{number}e{found['power']}")
        return Decimal(number) * (_BINARY.get(found["unit"]) or _DECIMAL[found["unit"]])
    except InvalidOperation:  # no digits, or an exponent that is too large
        return None


def is_image(value: str) -> bool:
    """Return whether a kubelet can request it from a registry."""
    found = _IMAGE.fullmatch(value)
    return bool(
        found
        and len(found["name"]) <= _LONGEST_IMAGE_NAME
        and not _IDENTIFIER.fullmatch(found["name"])
    )


def is_env_name(value: str) -> bool:
    """Return whether Kubernetes accepts it as the name of an environment variable."""
    return bool(_ENV_NAME.fullmatch(value))


def is_label_name(value: str) -> bool:
    """Return whether it is an RFC 1123 label: the name of a container or volume."""
    return bool(_LABEL_NAME.fullmatch(value))


def is_subdomain(value: str) -> bool:
    """Return whether it is an RFC 1123 subdomain: the name of most objects."""
    return bool(_SUBDOMAIN.fullmatch(value))


def is_label_key(value: str) -> bool:
    """Return whether it is `name` or `prefix/name`, with a subdomain as prefix."""
    prefix, slash, name = value.rpartition("/")
    return bool(_QUALIFIED.fullmatch(name)) and (not slash or is_subdomain(prefix))


def is_label_value(value: str) -> bool:
    """Return whether it is empty or a qualified name."""
    return value == "" or bool(_QUALIFIED.fullmatch(value))


# The types of a Job's fields

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
_REQUIRED_FIELDS = {
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
        shape = known[name] = FieldType("mapping", name, required=_REQUIRED_FIELDS.get(name, ()))
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


# The errors of a manifest

ROOT: Path = ("job_manifest",)

Opaque = Callable[[Any], bool]

#: The longest argument, and the longest NAME=value, with which Linux starts a process.
MAX_ARGUMENT_BYTES = 131_072
MAX_ANNOTATIONS_BYTES = 256 * 1024
#: The largest object that etcd stores.
MAX_OBJECT_BYTES = 1536 * 1024
_TOO_LONG = f"at most {MAX_ARGUMENT_BYTES:,} bytes (more fails with `argument list too long`)"
_PORT = "a port number from 1 to 65535"
_SOURCES = ("configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef")
_EXACTLY = {"apiVersion": "batch/v1", "kind": "Job"}
_REQUIRED = {
    "apiVersion": repr(_EXACTLY["apiVersion"]),
    "kind": repr(_EXACTLY["kind"]),
    "spec": "a mapping",
    "template": "a mapping",
    "containers": "a list with the flow's container",
    "restartPolicy": "'Never'",
    "image": IMAGE,
    "name": LABEL_NAME,
    "V1EnvVar.name": ENV_NAME,
    "containerPort": _PORT,
    "fieldPath": "the path of a field, such as status.hostIP",
    "key": "a key of the Secret or ConfigMap",
    "mountPath": "a path in the container",
    "resource": "a resource, such as limits.memory",
}
_TYPES: Mapping[str, tuple[type, str]] = {
    "mapping": (Mapping, "a mapping"),
    "list": (list, "a list"),
    "text": (str, "a string"),
    "boolean": (bool, "true or false"),
}
_NOT_NEGATIVE = frozenset(
    {
        "activeDeadlineSeconds",
        "backoffLimit",
        "completions",
        "parallelism",
        "ttlSecondsAfterFinished",
    }
)


def find_errors(
    manifest: Any, *, root: Path = ROOT, is_opaque: Opaque = lambda _: False
) -> list[FieldError]:
    """Return the errors of the manifest, except for values that `is_opaque` accepts."""
    return [
        error
        for error in _walk(manifest, job_type(), root, is_opaque)
        if not is_opaque(error.value)
    ]


def unknown_fields(manifest: Any, *, root: Path = ROOT) -> list[Path]:
    """Return the paths that the API server drops, because a Job has no such field."""
    return list(_unknown(manifest, job_type(), root))


def _walk(value: Any, shape: FieldType, path: Path, opaque: Opaque) -> Iterator[FieldError]:
    if opaque(value):
        return
    expected = _expected_type(value, shape)
    if expected:
        yield FieldError(path, value, expected)
    elif shape.kind == "list":
        for index, item in enumerate(value):
            if item is not None and shape.items:
                yield from _walk(item, shape.items, (*path, index), opaque)
    elif shape.kind == "mapping":
        yield from _walk_mapping(value, shape, path, opaque)


def _walk_mapping(
    value: Mapping[str, Any], shape: FieldType, path: Path, opaque: Opaque
) -> Iterator[FieldError]:
    for key in shape.required:
        if value.get(key) is None:
            expected = _REQUIRED.get(f"{shape.name}.{key}") or _REQUIRED[key]
            yield FieldError((*path, key), MISSING, expected)
    for key, item in value.items():
        inner = shape.items or shape.fields.get(key)
        if item is not None and inner:
            yield from _walk(item, inner, (*path, key), opaque)
    if rule := _RULES.get(shape.name):
        yield from rule(value, path)


def _expected_type(value: Any, shape: FieldType) -> str:
    """Return the expected type if the value has another one, else ""."""
    if shape.kind == "quantity":
        return "" if parse_quantity(value) is not None else QUANTITY
    if shape.kind == "integer":
        return "" if _is_integer(value, bits=shape.bits) else f"a {shape.bits}-bit integer"
    if shape.kind == "port":
        is_port = isinstance(value, str) or _is_integer(value, bits=32)
        return "" if is_port else "a port number or the name of a port"
    if shape.kind not in _TYPES:
        return ""
    types, expected = _TYPES[shape.kind]
    return "" if isinstance(value, types) else expected


def _is_integer(value: Any, *, bits: int) -> bool:
    limit: int = 2 ** (bits - 1)
    return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit


# Rules beyond types, by the model's name. Type errors are reported already, so a rule checks only
# values of the right type.


def _job(job: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    for key, expected in _EXACTLY.items():
        if job.get(key) not in (None, expected):
            yield FieldError((*path, key), job[key], repr(expected))
    if (size := _text_size(job)) > MAX_OBJECT_BYTES:
        yield FieldError(
            path, size, f"at most {MAX_OBJECT_BYTES:,} bytes, the limit for one object"
        )


def _text_size(document: Any) -> Size:
    """Return the bytes of its strings alone: it takes at least as much in etcd."""
    texts: list[str] = []
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return Size.of(*texts)


def _metadata(metadata: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    given = metadata.get("annotations")
    pairs = given.items() if isinstance(given, Mapping) else ()
    size = Size.of(*(text for pair in pairs for text in pair if isinstance(text, str)))
    if size > MAX_ANNOTATIONS_BYTES:
        expected = f"at most {MAX_ANNOTATIONS_BYTES:,} bytes of annotations, keys included"
        yield FieldError((*path, "annotations"), size, expected)


def _job_spec(spec: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    for key in _NOT_NEGATIVE & spec.keys():
        if _is_integer(spec[key], bits=64) and spec[key] < 0:
            yield FieldError((*path, key), spec[key], "0 or more")
    yield from _deadline(spec, path)


def _deadline(spec: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    if spec.get("activeDeadlineSeconds") == 0 and spec["activeDeadlineSeconds"] is not False:
        yield FieldError(
            (*path, "activeDeadlineSeconds"), 0, "at least 1 second: with 0 no run can start"
        )


def _pod_spec(spec: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    policy = spec.get("restartPolicy")
    if isinstance(policy, str) and policy != "Never":
        yield FieldError(
            (*path, "restartPolicy"), policy, "'Never': a run's pod must not be restarted"
        )
    if spec.get("containers") == []:
        yield FieldError((*path, "containers"), [], _REQUIRED["containers"])
    yield from _names(spec, path, "containers", "initContainers")
    yield from _names(spec, path, "volumes")
    yield from _deadline(spec, path)
    for key in ("serviceAccountName", "nodeName", "runtimeClassName", "priorityClassName"):
        name = spec.get(key)
        if isinstance(name, str) and name and not is_subdomain(name):
            yield FieldError((*path, key), name, SUBDOMAIN)
    yield from _node_selector(spec, path)
    yield from _mounts(spec, path)


def _node_selector(spec: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    given = spec.get("nodeSelector")
    for key, value in given.items() if isinstance(given, Mapping) else ():
        if not is_label_key(key):
            yield FieldError((*path, "nodeSelector", key), key, LABEL_KEY)
        elif isinstance(value, str) and not is_label_value(value):
            yield FieldError((*path, "nodeSelector", key), value, LABEL_VALUE)


def _mounts(spec: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    """Check that each mount names a volume of the pod and that mount paths are unique."""
    volumes = spec.get("volumes") or []
    if not isinstance(volumes, list):
        return  # another rule reports it, or it is a placeholder
    known = [v.get("name") if isinstance(v, Mapping) else None for v in volumes]
    for key in ("containers", "initContainers"):
        for index, container in enumerate(_items(spec, key)):
            taken: set[Any] = set()
            for at, mount in enumerate(_items(container, "volumeMounts")):
                where = (*path, key, index, "volumeMounts", at)
                name, place = (_field(mount, field) for field in ("name", "mountPath"))
                if name and name not in known and all(map(_is_plain, known)):
                    expected = "the name of one of the pod's volumes"
                    yield FieldError((*where, "name"), name, expected, against=(*path, "volumes"))
                if place in taken:
                    yield FieldError(
                        (*where, "mountPath"), place, "a path that no other mount uses"
                    )
                taken |= {place} if place else set()


def _items(parent: Any, key: str) -> list[Any]:
    found = parent.get(key) if isinstance(parent, Mapping) else None
    return found if isinstance(found, list) else []


def _field(item: Any, key: str) -> str:
    """Return the field if it is a string, else ""."""
    found = item.get(key) if isinstance(item, Mapping) else None
    return found if isinstance(found, str) else ""


def _is_plain(name: Any) -> bool:
    """Return whether it is a volume's name, and not a template's placeholder for one or several."""
    return isinstance(name, str) and "{{" not in name


def _names(spec: Mapping[str, Any], path: Path, *keys: str) -> Iterator[FieldError]:
    """Check that the names in the lists are label names, each used once."""
    taken: set[str] = set()
    for key in keys:
        items = spec.get(key)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            name = item.get("name") if isinstance(item, Mapping) else None
            if not isinstance(name, str):
                continue
            where = (*path, key, index, "name")
            if not is_label_name(name):
                yield FieldError(where, name, LABEL_NAME)
            elif name in taken:
                yield FieldError(where, name, "a unique name")
            taken.add(name)


def _container(container: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    image = container.get("image")
    if isinstance(image, str) and not is_image(image):
        yield FieldError((*path, "image"), image, IMAGE)
    for key in ("args", "command"):
        for index, item in enumerate(_items(container, key)):
            if isinstance(item, str) and (size := _in_process(item)) > MAX_ARGUMENT_BYTES:
                yield FieldError((*path, key, index), size, _TOO_LONG)
    for index, port in enumerate(_items(container, "ports")):
        for key in ("containerPort", "hostPort"):
            number = port.get(key) if isinstance(port, Mapping) else None
            if isinstance(number, int) and not 0 < number < 65536:
                yield FieldError((*path, "ports", index, key), number, _PORT)


def _in_process(*texts: str) -> Size:
    """Return its size in a process: with the byte that ends it."""
    return Size(Size.of(*texts) + 1)


def _env_var(entry: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    name = entry.get("name")
    if isinstance(name, str) and not is_env_name(name):
        yield FieldError((*path, "name"), name, ENV_NAME)
    value, source = entry.get("value"), entry.get("valueFrom")
    if isinstance(value, str) and (size := _in_process(str(name), "=", value)) > MAX_ARGUMENT_BYTES:
        yield FieldError((*path, "value"), size, f"{name}=VALUE of {_TOO_LONG}")
    if isinstance(source, Mapping):
        given = [key for key in source if source[key] is not None and key in _SOURCES]
        if len(given) != 1:
            expected = f"exactly one of {', '.join(_SOURCES)}"
            yield FieldError((*path, "valueFrom"), source, expected)
        elif value:
            yield FieldError((*path, "value"), value, "no value, because valueFrom is set")


def _resources(resources: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    limits, requests = (resources.get(key) for key in ("limits", "requests"))
    for key, given in (("limits", limits), ("requests", requests)):
        for name, value in given.items() if isinstance(given, Mapping) else ():
            amount = parse_quantity(value)
            if amount is not None and amount < 0:
                yield FieldError((*path, key, name), value, "a quantity of 0 or more")
    if isinstance(limits, Mapping) and isinstance(requests, Mapping):
        yield from _requests_within(limits, requests, path)


def _requests_within(
    limits: Mapping[str, Any], requests: Mapping[str, Any], path: Path
) -> Iterator[FieldError]:
    for name in requests.keys() & limits.keys():
        limit, request = (
            parse_quantity(limits[name]),
            parse_quantity(requests[name]),
        )
        if limit is not None and request is not None and request > limit:
            where, expected = (*path, "requests", name), f"at most the limit, {limits[name]!r}"
            yield FieldError(where, requests[name], expected, against=(*path, "limits", name))


_RULES: Mapping[str, Callable[[Mapping[str, Any], Path], Iterator[FieldError]]] = {
    "V1Job": _job,
    "V1ObjectMeta": _metadata,
    "V1JobSpec": _job_spec,
    "V1PodSpec": _pod_spec,
    "V1Container": _container,
    "V1EnvVar": _env_var,
    "V1ResourceRequirements": _resources,
}


def _unknown(value: Any, shape: FieldType, path: Path) -> Iterator[Path]:
    if shape.kind == "list" and isinstance(value, list) and shape.items:
        for index, item in enumerate(value):
            yield from _unknown(item, shape.items, (*path, index))
    elif shape.fields and isinstance(value, Mapping):
        for key, item in value.items():
            if key in shape.fields:
                yield from _unknown(item, shape.fields[key], (*path, key))
            else:
                yield (*path, key)
