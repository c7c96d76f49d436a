"""Builds Jobs with any value in any field."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

from tests.support.kube import Object
from workpool_operator.jobs import validation
from workpool_operator.jobs.field_errors import Path, parse_path
from workpool_operator.jobs.validation import FieldType

CONTAINER: Path = ("spec", "template", "spec", "containers", 0)
JOB: Object = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "tried"},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "prefect-job", "image": "busybox"}],
            }
        },
    },
}
VALUES = ["text", 5, True, 1.5, [], {}, ["x"], {"a": "b"}, [None], None, -1, 2**40, "1Gi"]


def put(document: Object, path: str, value: Any) -> None:
    """Set what is at the path, such as `spec.template.spec.containers[0].image`."""
    *parents, last = parse_path(path)
    node: Any = document
    for part in parents:
        node = node[part] if isinstance(part, int) else node.setdefault(part, {})
    node[last] = value


def places(shape: FieldType, here: Path = ()) -> Iterator[Path]:
    """Yield the path of every field that a person can set, down to the leaves."""
    if here and here[-1] not in ("status", "managedFields", "ephemeralContainers", "namespace"):
        yield here
        for key, inner in shape.fields.items():
            yield from places(inner, (*here, key))
        if shape.items:
            yield from places(shape.items, (*here, 0 if shape.kind == "list" else "key"))


def with_value(place: Path, value: Any) -> Object:
    job = copy.deepcopy(JOB)
    node: Any = job
    for part, following in itertools.pairwise(place):
        node = _at(node, part, [] if isinstance(following, int) else {})
    last = place[-1]
    if isinstance(last, int):
        node[last:] = [value]
    else:
        node[last] = value
    return job


def _at(node: Any, part: Any, new: Any) -> Any:
    if isinstance(node, list):
        if len(node) <= part:
            node.append(new)
        return node[part]
    return node.setdefault(part, new)


def every() -> Iterator[Object]:
    """Yield a Job for each combination of a field and a value."""
    shape = validation.job_type()
    for key in ("metadata", "spec"):
        for place in places(shape.fields[key], (key,)):
            yield from (with_value(place, value) for value in VALUES)
