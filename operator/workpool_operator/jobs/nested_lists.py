"""A list within a list of a manifest: its items join the outer one's. Pure.

A placeholder can stand for a whole list, but not for some of a list's items. So that a template can
fix items and let a run add its own, `[fixed, "{{ placeholder }}"]` becomes one list once the values
are in. Changes no manifest that Kubernetes accepts: none of a Job's fields is a list of lists.
"""

from __future__ import annotations

from typing import Any

# What makes two items of a field the same one: the keys by which Kubernetes itself merges them.
_KEYS = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}


def flatten_lists(node: Any, *, field: str = "") -> None:
    """Join, in place, every inner list below `node`. An item that joins takes the place of the same
    item before it; null in a list of mappings stands for an empty list."""
    if isinstance(node, dict):
        for key, value in node.items():
            flatten_lists(value, field=key)
    elif isinstance(node, list):
        if any(isinstance(item, list) for item in node) or _is_null_among_mappings(node):
            node[:] = _joined(node, key=_KEYS.get(field))
        for item in node:
            flatten_lists(item)


def _is_null_among_mappings(items: list[Any]) -> bool:
    return None in items and any(isinstance(item, dict) for item in items)


def _joined(items: list[Any], *, key: str | None) -> list[Any]:
    result: list[Any] = []
    for item in items:
        if isinstance(item, list):
            replaced = {_identity(joining, key) for joining in item} - {None}
            result = [known for known in result if _identity(known, key) not in replaced] + item
        elif item is not None:
            result.append(item)
    return result


def _identity(item: Any, key: str | None) -> str | None:
    found = item.get(key) if key and isinstance(item, dict) else None
    return None if found is None else str(found)
