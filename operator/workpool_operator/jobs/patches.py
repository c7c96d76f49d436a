"""Applies a binding's patches (RFC 6902) to the manifest of a Job, and traces what they set. Pure.

A patch must leave unchanged what the operator relies on: it is rejected if it changes the identity
of the Job, how often its pods run, or which container runs the flow.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jsonpatch import InvalidJsonPatch, JsonPatch, JsonPatchException, JsonPatchTestFailed
from jsonpointer import JsonPointer, JsonPointerException

from workpool_operator.errors import PatchRejected, RenderError
from workpool_operator.jobs import environment
from workpool_operator.jobs import manifest as manifests
from workpool_operator.jobs.field_errors import Path
from workpool_operator.kube import models

FIELD = "spec.jobs.patches"
_NEEDED = {"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from"}
_IN_TEMPLATE = "set it in the pool's template"
_OWN_VARIABLES = frozenset(
    {
        "PREFECT_API_URL",
        "PREFECT_API_KEY",
        "PREFECT_API_AUTH_STRING",
        "PREFECT_CLIENT_CUSTOM_HEADERS",
        "PREFECT_API_SSL_CERT_FILE",
        "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
        "PREFECT__FLOW_RUN_ID",
        environment.SIGTERM_BEHAVIOR,
    }
)
#: What a patch must not change, by its place, and what to do instead.
_KEPT = {
    "apiVersion": "every manifest is that of a batch/v1 Job",
    "kind": "every manifest is that of a batch/v1 Job",
    "metadata.name": "the operator finds the run's Job by its name",
    "metadata.namespace": "set spec.jobs.namespace or spec.jobs.allowedNamespaces",
    "spec.backoffLimit": f"what a stopped flow does depends on it: {_IN_TEMPLATE}",
    "spec.completions": "each pod of the Job would execute the run",
    "spec.parallelism": "each pod of the Job would execute the run",
    "spec.podReplacementPolicy": f"two pods of the run could overlap: {_IN_TEMPLATE}",
    "spec.ttlSecondsAfterFinished": "it starts when the run's end is reported: set "
    "spec.jobs.ttlSecondsAfterFinished",
}

Object = dict[str, Any]
Operation = Mapping[str, Any]


def problems(operations: Sequence[Any]) -> Iterator[tuple[Path, str]]:
    """Yield what is wrong with operations whatever they are applied to, each with its path."""
    for index, operation in enumerate(operations):
        needed = _NEEDED.get(str(operation.get("op"))) if isinstance(operation, Mapping) else None
        if needed and needed not in operation:
            yield (index, needed), f"is required for {operation['op']}"


def apply(manifest: Object, operations: Iterable[Operation]) -> Object:
    """Return a copy of the manifest to which the operations were applied, one after the other.

    Raises:
        PatchRejected: one cannot be applied, or changes what must stay as it is.
    """
    patched, kept = copy.deepcopy(manifest), dict(_kept(manifest))
    for index, operation in enumerate(operations):
        where = f"{FIELD}[{index}]"
        what = f"{operation['op']} {operation['path']}"
        try:
            JsonPatch([copy.deepcopy(dict(operation))]).apply(patched, in_place=True)
        except (JsonPatchException, JsonPointerException) as error:
            raise PatchRejected(where, f"{what}: {_why(error, operation, patched)}") from error
        changed = dict(_kept(patched))
        for place in {**kept, **changed}:
            if kept.get(place) != changed.get(place):
                raise PatchRejected(where, f"{what} changes {_explained(place)}")
    return patched


def setter(path: Path, operations: Sequence[Operation]) -> str:
    """Return the field of the patch that set the value at the path of the manifest, the last one
    that did; "" if none did."""
    for index in range(len(operations) - 1, -1, -1):
        parts = JsonPointer(operations[index]["path"]).parts
        if operations[index]["op"] not in ("remove", "test") and _is_within(path, parts):
            return f"{FIELD}[{index}]"
    return ""


def _is_within(path: Path, parts: Sequence[str]) -> bool:
    """Return whether the path is the pointer's place or below it; `-` is any place of a list."""
    if len(path) < len(parts):
        return False
    return all(part in ("-", str(key)) for part, key in zip(parts, path[: len(parts)], strict=True))


def _why(error: Exception, operation: Operation, document: Any) -> str:
    """Return why it cannot be applied. The library's own text quotes the document, which can
    contain secrets."""
    if isinstance(error, JsonPatchTestFailed):
        return "the Job has another value there"
    if isinstance(error, InvalidJsonPatch):
        return f"it requires {_NEEDED.get(operation['op'], 'a known operation')}"
    pointers = [operation[key] for key in ("from", "path") if key in operation]
    missing = next(filter(None, (_missing(document, pointer) for pointer in pointers)), "")
    return f"the Job has no {missing}" if missing else "the Job has no place for it there"


def _missing(document: Any, pointer: str) -> str:
    """Return the shortest part of the pointer that the document does not have."""
    parts = JsonPointer(pointer).parts
    for length in range(1, len(parts) + 1):
        part = JsonPointer.from_parts(parts[:length])
        try:
            part.resolve(document)
        except JsonPointerException:
            return str(part.path)
    return ""


def _kept(manifest: Any) -> Iterator[tuple[str, Any]]:
    """Yield what must not change, by its place."""
    for place in _KEPT:
        yield place, manifests.get_mapping_path(manifest, place)
    for metadata in ("metadata", "spec.template.metadata"):
        for field in ("labels", "annotations"):
            given = manifests.get_mapping_path(manifest, f"{metadata}.{field}")
            for key, value in given.items() if isinstance(given, Mapping) else ():
                if key.startswith(models.PREFIX) or key == manifests.FLOW_RUN_ID_KEY:
                    yield f"{metadata}.{field}[{key}]", value
    flow = _flow_container(manifest)
    yield "flow container", flow.get("name")
    env = flow.get("env")
    for entry in env if isinstance(env, list) else ():
        if isinstance(entry, Mapping) and entry.get("name") in _OWN_VARIABLES:
            yield f"variable {entry['name']}", entry


def _flow_container(manifest: Any) -> Object:
    try:
        return manifests.get_flow_container(manifest)
    except RenderError:
        return {}


def _explained(place: str) -> str:
    if place == "flow container":
        return (
            "which container runs the flow: it is the one named prefect-job, else the first. Add "
            "other containers after it, and keep its name"
        )
    if place.startswith("variable "):
        return f"{place} of the flow's container, which the operator sets"
    reason = _KEPT.get(place, "the operator finds its Jobs by it")
    return f"{place}: {reason}"


# Where the values of a patched manifest come from


class _EmptyMapping(dict[str, Any]):
    """Stands for an empty mapping of the manifest, and knows its source."""

    source = ""


class _EmptyList(list[Any]):
    """Stands for an empty list of the manifest, and knows its source."""

    source = ""


def trace(
    manifest: Object, sources: Mapping[Path, str], operations: Iterable[Operation], *, by: str
) -> dict[Path, str]:
    """Return the source of every innermost value of the patched manifest. `sources` are those of
    the manifest before; the source of what patch 2 sets is `by`[2].

    A tree that has a source in place of each value is patched as the manifest was. So a value keeps
    its source if an item before it is inserted or removed.
    """
    tree = _with_sources(manifest, (), sources)
    for index, operation in enumerate(operations):
        JsonPatch(list(_steps(operation, tree, f"{by}[{index}]"))).apply(tree, in_place=True)
    return dict(_leaves(tree, (), default=by))


def _steps(operation: Operation, tree: Object, source: str) -> Iterator[Object]:
    """Yield the same operation on a tree of sources."""
    match operation["op"]:
        case "remove":
            yield {"op": "remove", "path": operation["path"]}
        case "add" | "replace" as op:
            value = _all_from(operation["value"], source)
            yield {"op": op, "path": operation["path"], "value": value}
        case "move" | "copy" as op:
            value = _all_from(JsonPointer(operation["from"]).resolve(tree), source)
            if op == "move":
                yield {"op": "remove", "path": operation["from"]}
            yield {"op": "add", "path": operation["path"], "value": value}


def _with_sources(value: Any, path: Path, sources: Mapping[Path, str]) -> Any:
    if isinstance(value, Mapping) and value:
        return {key: _with_sources(item, (*path, key), sources) for key, item in value.items()}
    if isinstance(value, list) and value:
        return [_with_sources(item, (*path, at), sources) for at, item in enumerate(value)]
    return _leaf(value, sources[path])


def _all_from(value: Any, source: str) -> Any:
    if isinstance(value, Mapping) and value:
        return {key: _all_from(item, source) for key, item in value.items()}
    if isinstance(value, list) and value:
        return [_all_from(item, source) for item in value]
    return _leaf(value, source)


def _leaf(value: Any, source: str) -> Any:
    if not isinstance(value, Mapping | list):
        return source
    empty = _EmptyMapping() if isinstance(value, Mapping) else _EmptyList()
    empty.source = source
    return empty


def _leaves(node: Any, path: Path, *, default: str) -> Iterator[tuple[Path, str]]:
    if isinstance(node, Mapping) and node:
        for key, item in node.items():
            yield from _leaves(item, (*path, key), default=default)
    elif isinstance(node, list) and node:
        for at, item in enumerate(node):
            yield from _leaves(item, (*path, at), default=default)
    else:  # a mapping or list that a patch emptied has no source of its own
        yield path, node if isinstance(node, str) else getattr(node, "source", default)
