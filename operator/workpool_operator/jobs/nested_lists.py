"""Flattens lists within lists of a manifest. Pure.

A placeholder can be a whole list, but not some of a list's items. So that a template can fix items
and a run can add its own, `[fixed, "{{ placeholder }}"]` becomes one list after the values are
filled in. No manifest that Kubernetes accepts is changed: no field of a Job is a list of lists.
"""

from __future__ import annotations

from typing import Any

# The key that identifies an item of a list: the one by which Kubernetes merges lists, too.
_KEYS = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}


def flatten_lists(node: Any, *, field: str = "") -> None:
    """Flatten every inner list below `node`, in place. A joining item replaces an earlier one with
    the same key; a null in a list of mappings counts as an empty list."""
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
