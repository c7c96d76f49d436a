"""Finds the binding that `--binding` names.

`file`, `file#name` and `file#namespace/name` name a binding of a file, `namespace/name` one of the
cluster.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from workpool_operator.api import v1alpha1
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.context import Binding
from workpool_operator.binding.status import BINDINGS
from workpool_operator.cli import binding_check, objects
from workpool_operator.cli.objects import KubernetesObject
from workpool_operator.errors import KubernetesRefused, OperatorError
from workpool_operator.jobs.documents import UnreadableFile
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.kube.client import KubernetesClient

_IN_CLUSTER = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+")


async def find_binding(text: str, *, kube: KubernetesClient | None) -> Binding:
    """Return the binding. A file of that name wins over the cluster.

    Raises:
        OperatorError: the binding does not exist, or it is invalid.
    """
    if not is_in_cluster(text):
        return _from_file(text, namespace=kube.namespace if kube else "default")
    assert kube is not None
    return await _from_cluster(kube, *text.split("/"))


def is_in_cluster(text: str) -> bool:
    """Return whether the text names a binding of the cluster, not a file."""
    file, _ = _file_and_name(text)
    return _IN_CLUSTER.fullmatch(text) is not None and not pathlib.Path(file).exists()


def _file_and_name(text: str) -> tuple[str, str]:
    if pathlib.Path(text).exists() or "#" not in text:
        return text, ""
    file, _, name = text.rpartition("#")
    return file, name


def _from_file(text: str, *, namespace: str) -> Binding:
    file, name = _file_and_name(text)
    every = [each for each in objects.read_objects(file) if objects.is_binding(each.value)]
    found = [each for each in every if not name or name in _names(each)]
    if len(found) != 1:
        raise UnreadableFile(file, _not_one(file, name, every, found))
    _refuse_invalid(found[0])
    return binding_of(found[0].value, default_namespace=namespace)


def _not_one(
    file: str, name: str, every: Sequence[KubernetesObject], found: Sequence[KubernetesObject]
) -> str:
    if not every:
        return f"contains no {v1alpha1.KIND}"
    names = ", ".join(_names(each)[-1] for each in found or every)
    if not found:
        return f"contains no {v1alpha1.KIND} {name!r}, only {names}"
    kind = f"{v1alpha1.KIND}s" + (f" named {name!r}" if name else "")
    first = f"{file}#{_names(found[0])[-1]}"
    return f"contains {len(found)} {kind} ({names}): name one, such as {first}"


def _names(found: KubernetesObject) -> list[str]:
    """Return the names that select the binding: without and, if it has one, with its namespace."""
    namespace, name = (get_path(found.value, ("metadata", key)) for key in ("namespace", "name"))
    return [str(name), *([f"{namespace}/{name}"] if namespace else [])]


async def _from_cluster(kube: KubernetesClient, namespace: str, name: str) -> Binding:
    try:
        manifest = await kube.get(BINDINGS, namespace, name)
    except KubernetesRefused as refused:
        raise OperatorError(f"{v1alpha1.KIND} {namespace}/{name}: {refused}") from refused
    return binding_of(manifest)


def _refuse_invalid(found: KubernetesObject) -> None:
    for finding in binding_check.check(found.value):
        if finding.severity == "error":
            text = f"{finding.under(found.prefix).path_text}: {finding.message}"
            raise UnreadableFile(found.document.file, text, position=found.position(finding.path))


def binding_of(manifest: Mapping[str, Any], *, default_namespace: str = "default") -> Binding:
    """Return the binding of a manifest.

    Raises:
        ValidationError: the spec is invalid.
    """
    spec, metadata = Spec.model_validate(manifest["spec"]), manifest["metadata"]
    return Binding(
        namespace=metadata.get("namespace") or default_namespace,
        name=metadata.get("name") or metadata["generateName"],
        spec=lambda: spec,
        generation=lambda: 0,
        status={},
    )
