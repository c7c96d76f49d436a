"""What is wrong with a Job's manifest, all of it at once. Pure, and fast enough for every run.

Told here is what the API server would refuse without a path (wrong types, quantities), what it does
not see at all (an image reference that is none; study of its dry-run: races.md 29), and the common
faults for whom asks without a cluster. What is not told here it refuses with a path of its own.
Nothing is a fault that it would take, but for a restart policy under which a run's end goes unseen.
Fields that it does not know are no faults: it drops them, and stock templates have some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from workpool_operator.jobs import grammar, shapes
from workpool_operator.jobs.fault import MISSING, Fault, Path
from workpool_operator.jobs.shapes import Shape

ROOT: Path = ("job_manifest",)

Opaque = Callable[[Any], bool]

_EXACTLY = {"apiVersion": "batch/v1", "kind": "Job"}
_REQUIRED = {
    "apiVersion": repr(_EXACTLY["apiVersion"]),
    "kind": repr(_EXACTLY["kind"]),
    "spec": "a mapping",
    "template": "a mapping",
    "containers": "a list with the flow's container",
    "restartPolicy": "'Never'",
    "image": grammar.IMAGE,
    "name": grammar.LABEL_NAME,
    "V1EnvVar.name": grammar.ENV_NAME,
    "containerPort": "a port from 1 to 65535",
    "mountPath": "a path in the container",
}
_TYPES: Mapping[str, tuple[type, str]] = {
    "mapping": (Mapping, "a mapping"),
    "list": (list, "a list"),
    "text": (str, "text"),
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


def faults(manifest: Any, *, root: Path = ROOT, opaque: Opaque = lambda _: False) -> list[Fault]:
    """What is wrong with the manifest; nothing is said of values that are `opaque`."""
    return [
        fault for fault in _walk(manifest, shapes.job(), root, opaque) if not opaque(fault.value)
    ]


def unknown_fields(manifest: Any, *, root: Path = ROOT) -> list[Path]:
    """What the API server drops, with a warning, because a Job has no such field."""
    return list(_unknown(manifest, shapes.job(), root))


def _walk(value: Any, shape: Shape, path: Path, opaque: Opaque) -> Iterator[Fault]:
    if opaque(value):
        return
    expected = _misfit(value, shape)
    if expected:
        yield Fault(path, value, expected)
    elif shape.kind == "list":
        for index, item in enumerate(value):
            if item is not None and shape.items:
                yield from _walk(item, shape.items, (*path, index), opaque)
    elif shape.kind == "mapping":
        yield from _walk_mapping(value, shape, path, opaque)


def _walk_mapping(
    value: Mapping[str, Any], shape: Shape, path: Path, opaque: Opaque
) -> Iterator[Fault]:
    for key in shape.required:
        if value.get(key) is None:
            expected = _REQUIRED.get(f"{shape.name}.{key}") or _REQUIRED[key]
            yield Fault((*path, key), MISSING, expected)
    for key, item in value.items():
        inner = shape.items or shape.fields.get(key)
        if item is not None and inner:
            yield from _walk(item, inner, (*path, key), opaque)
    if rule := _RULES.get(shape.name):
        yield from rule(value, path)


def _misfit(value: Any, shape: Shape) -> str:
    """What the shape wants where the value has another type; else nothing."""
    if shape.kind == "quantity":
        return "" if grammar.quantity(value) is not None else grammar.QUANTITY
    if shape.kind == "integer":
        return "" if _is_integer(value, bits=shape.bits) else f"a whole number of {shape.bits} bits"
    if shape.kind == "port":
        is_port = isinstance(value, str) or _is_integer(value, bits=32)
        return "" if is_port else "the number or the name of a port"
    if shape.kind not in _TYPES:
        return ""
    types, expected = _TYPES[shape.kind]
    return "" if isinstance(value, types) else expected


def _is_integer(value: Any, *, bits: int) -> bool:
    limit: int = 2 ** (bits - 1)
    return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit


# What holds beyond types, by the model's name. Types have been told already: a rule looks only at
# what has the right one.


def _job(job: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    for key, expected in _EXACTLY.items():
        if job.get(key) not in (None, expected):
            yield Fault((*path, key), job[key], repr(expected))


def _job_spec(spec: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    for key in _NOT_NEGATIVE & spec.keys():
        if _is_integer(spec[key], bits=64) and spec[key] < 0:
            yield Fault((*path, key), spec[key], "a number that is not negative")


def _pod_spec(spec: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    policy = spec.get("restartPolicy")
    if isinstance(policy, str) and policy != "Never":
        yield Fault((*path, "restartPolicy"), policy, "'Never': a run's pod is started once")
    if spec.get("containers") == []:
        yield Fault((*path, "containers"), [], _REQUIRED["containers"])
    yield from _names(spec, path, "containers", "initContainers")
    yield from _names(spec, path, "volumes")


def _names(spec: Mapping[str, Any], path: Path, *keys: str) -> Iterator[Fault]:
    """The names in the lists are label names, and no two are the same."""
    taken: set[str] = set()
    for key in keys:
        items = spec.get(key)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            name = item.get("name") if isinstance(item, Mapping) else None
            if not isinstance(name, str):
                continue
            where = (*path, key, index, "name")
            if not grammar.is_label_name(name):
                yield Fault(where, name, grammar.LABEL_NAME)
            elif name in taken:
                yield Fault(where, name, "a name that no other has")
            taken.add(name)


def _container(container: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    image = container.get("image")
    if isinstance(image, str) and not grammar.is_image(image):
        yield Fault((*path, "image"), image, grammar.IMAGE)


def _env_var(entry: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    name = entry.get("name")
    if isinstance(name, str) and not grammar.is_env_name(name):
        yield Fault((*path, "name"), name, grammar.ENV_NAME)


def _resources(resources: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    limits, requests = (resources.get(key) for key in ("limits", "requests"))
    for key, given in (("limits", limits), ("requests", requests)):
        for name, value in given.items() if isinstance(given, Mapping) else ():
            amount = grammar.quantity(value)
            if amount is not None and amount < 0:
                yield Fault((*path, key, name), value, "a quantity that is not negative")
    if isinstance(limits, Mapping) and isinstance(requests, Mapping):
        yield from _requests_within(limits, requests, path)


def _requests_within(
    limits: Mapping[str, Any], requests: Mapping[str, Any], path: Path
) -> Iterator[Fault]:
    for name in requests.keys() & limits.keys():
        limit, request = grammar.quantity(limits[name]), grammar.quantity(requests[name])
        if limit is not None and request is not None and request > limit:
            where, expected = (*path, "requests", name), f"at most the limit, {limits[name]!r}"
            yield Fault(where, requests[name], expected, against=(*path, "limits", name))


_RULES: Mapping[str, Callable[[Mapping[str, Any], Path], Iterator[Fault]]] = {
    "V1Job": _job,
    "V1JobSpec": _job_spec,
    "V1PodSpec": _pod_spec,
    "V1Container": _container,
    "V1EnvVar": _env_var,
    "V1ResourceRequirements": _resources,
}


def _unknown(value: Any, shape: Shape, path: Path) -> Iterator[Path]:
    if shape.kind == "list" and isinstance(value, list) and shape.items:
        for index, item in enumerate(value):
            yield from _unknown(item, shape.items, (*path, index))
    elif shape.fields and isinstance(value, Mapping):
        for key, item in value.items():
            if key in shape.fields:
                yield from _unknown(item, shape.fields[key], (*path, key))
            else:
                yield (*path, key)
