"""Finds the objects of a file, each item of a List on its own, and which of them are ours.

Pure, except that `read_objects` reads the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workpool_operator.api import v1alpha1
from workpool_operator.jobs import documents
from workpool_operator.jobs.documents import Document, Position
from workpool_operator.jobs.field_errors import Path, get_path

Kind = Literal["binding", "work pool", "base job template", "deployment file", "other"]


@dataclass(frozen=True, slots=True, eq=False)
class KubernetesObject:
    """An object of a file: of Kubernetes, a work pool, a template, or a `prefect.yaml`; `prefix` is
    its path there."""

    document: Document
    value: Any
    prefix: Path = ()

    @property
    def kind(self) -> Kind:
        """What the object is, judged by its fields."""
        if not isinstance(self.value, Mapping):
            return "other"
        if is_binding(self.value) or str(self.value.get("apiVersion")).startswith(v1alpha1.GROUP):
            return "binding"
        if "base_job_template" in self.value:  # as `prefect work-pool inspect -o json` prints it
            return "work pool"
        if "job_configuration" in self.value or "variables" in self.value:
            return "base job template"
        if isinstance(self.value.get("deployments"), list) and "apiVersion" not in self.value:
            return "deployment file"  # a prefect.yaml
        return "other"

    @property
    def foreign_kind(self) -> str:
        """The kind of a Kubernetes object that is not ours; "" for all others."""
        if self.kind != "other" or not isinstance(self.value, Mapping):
            return ""
        return str(self.value.get("kind") or "") if self.value.get("apiVersion") else ""

    def position(self, path: Path = ()) -> Position:
        """Return the position of a field in its file."""
        return self.document.position((*self.prefix, *path))

    def __str__(self) -> str:
        return f"{self.document.file}:{self.position().line}"


def is_binding(value: Any) -> bool:
    """Return whether the document is a WorkPoolBinding."""
    return isinstance(value, Mapping) and value.get("kind") == v1alpha1.KIND


def key_of(binding: Mapping[str, Any]) -> str:
    """Return NAMESPACE/NAME of a binding in a cluster."""
    return f"{binding['metadata']['namespace']}/{binding['metadata']['name']}"


def pool_name(spec: Any) -> str:
    """Return the name in Prefect of the work pool of a binding's spec; "" without one."""
    for path in (("workPool", "name"), ("workPool", "ref", "name")):
        if isinstance(name := get_path(spec, path), str):
            return name
    return ""


def poll_interval(spec: Any) -> int:
    """Return the number of seconds between two polls of a binding's spec, which may be invalid."""
    given = get_path(spec, ("poll", "intervalSeconds"))
    return given if isinstance(given, int) else v1alpha1.PollSpec().interval_seconds


def read_objects(file: str) -> list[KubernetesObject]:
    """Return the objects of all documents of the file, in their order.

    Raises:
        UnreadableFile: the file does not exist, or is not valid YAML or JSON.
    """
    return [each for document in documents.read_documents(file) for each in _objects(document)]


def _objects(document: Document) -> Iterator[KubernetesObject]:
    items = isinstance(document.value, Mapping) and document.value.get("items")
    if isinstance(items, list) and str(document.value.get("kind")).endswith("List"):
        # as `kubectl get -o yaml` prints it
        yield from (
            KubernetesObject(document, item, ("items", at)) for at, item in enumerate(items)
        )
    else:
        yield KubernetesObject(document, document.value)
