"""The binding that `--binding` names: from a file, or from the cluster as `namespace/name`."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from workpool_operator.binding import model
from workpool_operator.binding.model import Spec
from workpool_operator.binding.status import BINDINGS
from workpool_operator.binding.surroundings import Binding
from workpool_operator.cli import binding_check, documents
from workpool_operator.cli.documents import Document, Unreadable
from workpool_operator.errors import KubernetesRefused, OperatorError
from workpool_operator.kube.client import KubernetesClient

_IN_CLUSTER = re.compile(r"([a-z0-9-]+)/([a-z0-9.-]+)")


async def find(text: str, *, kube: KubernetesClient | None) -> Binding:
    """The binding; what is in a file wins over the cluster.

    Raises:
        OperatorError: there is none, or it is not valid.
    """
    named = _IN_CLUSTER.fullmatch(text)
    if named is None or is_there(text):
        return _from_file(text, namespace=kube.namespace if kube else "default")
    if kube is None:
        problem = "cannot be read: no such file, and no cluster to look for a binding of that name"
        raise Unreadable(text, problem)
    return await _from_cluster(kube, *named.groups())


def is_there(file: str) -> bool:
    return pathlib.Path(file).exists()


def _from_file(file: str, *, namespace: str) -> Binding:
    found = [each for each in documents.read(file) if _is_binding(each.value)]
    if len(found) != 1:
        raise Unreadable(file, f"holds {len(found) or 'no'} {model.KIND}; one is needed")
    _refuse_faults(found[0])
    return _binding(found[0].value, namespace)


async def _from_cluster(kube: KubernetesClient, namespace: str, name: str) -> Binding:
    try:
        return _binding(await kube.get(BINDINGS, namespace, name), namespace)
    except KubernetesRefused as refused:
        raise OperatorError(f"{model.KIND} {namespace}/{name}: {refused}") from refused


def _is_binding(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("kind") == model.KIND


def _refuse_faults(document: Document) -> None:
    for finding in binding_check.check(document.value):
        if finding.severity == "error":
            text = f"{finding.where}: {finding.message}"
            raise Unreadable(document.file, text, spot=document.spot(finding.path))


def _binding(manifest: Mapping[str, Any], namespace: str) -> Binding:
    spec, metadata = Spec.model_validate(manifest["spec"]), manifest["metadata"]
    return Binding(
        namespace=metadata.get("namespace") or namespace,
        name=metadata.get("name") or metadata["generateName"],
        spec=lambda: spec,
        generation=lambda: 0,
        status={},
    )
