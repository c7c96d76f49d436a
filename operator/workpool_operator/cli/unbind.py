"""`workpool-operator unbind`: delete bindings so that none is left waiting for its finalizer.

An uninstallation runs it first, while an operator still lives that gives the finalizers up. Where
none does, they are taken away after a while, and Prefect goes on listing the worker as OFFLINE; the
Secrets that a binding kept in another namespace are deleted then if the caller has the right to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from workpool_operator.binding import run_secrets
from workpool_operator.binding.model import Spec
from workpool_operator.binding.status import BINDINGS
from workpool_operator.binding.surroundings import Binding
from workpool_operator.cli.output import errors_in_one_line
from workpool_operator.errors import KubernetesRefused, Unavailable
from workpool_operator.kube.client import MERGE_PATCH, KubernetesClient

POLL_SECONDS = 0.5

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """Bindings of some namespaces (none: of all) that match a label selector."""

    namespaces: tuple[str, ...]
    selector: str

    @property
    def paths(self) -> list[str]:
        everywhere = f"{BINDINGS.api}/{BINDINGS.plural}"
        return [BINDINGS.path(namespace) for namespace in self.namespaces] or [everywhere]


def main(*, namespaces: Sequence[str], selector: str, patience_seconds: float) -> None:
    """Return once no selected binding is left."""
    selection = Selection(tuple(namespaces), selector)
    with errors_in_one_line():
        asyncio.run(_unbind(selection, patience_seconds))


async def _unbind(selection: Selection, patience_seconds: float) -> None:
    async with await KubernetesClient.from_environment() as kube:
        for binding in await _listed(kube, selection):
            await _unless_gone(kube, "DELETE", binding)
        for binding in await _left_after(patience_seconds, kube, selection):
            print(f"{_name(binding)}: no operator gave up its finalizer; taking it away")
            await _release_secrets(kube, binding)
            await _unless_gone(kube, "PATCH", binding, {"metadata": {"finalizers": None}})


async def _left_after(
    patience_seconds: float, kube: KubernetesClient, selection: Selection
) -> list[Object]:
    """The bindings that are still there, empty as soon as none is."""
    deadline = asyncio.get_running_loop().time() + patience_seconds
    while left := await _listed(kube, selection):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(POLL_SECONDS)
    return left


async def _listed(kube: KubernetesClient, selection: Selection) -> list[Object]:
    query = {"labelSelector": selection.selector} if selection.selector else {}
    pages = [json.loads(await kube.request("GET", p, query=query)) for p in selection.paths]
    return [binding for page in pages for binding in page["items"]]


async def _unless_gone(
    kube: KubernetesClient, method: str, binding: Object, body: Object | None = None
) -> None:
    metadata = binding["metadata"]
    path = BINDINGS.path(metadata["namespace"], metadata["name"])
    content_type = MERGE_PATCH if body else "application/json"
    try:
        await kube.request(method, path, body=body, content_type=content_type)
    except KubernetesRefused as refused:
        if refused.status != 404:
            raise


async def _release_secrets(kube: KubernetesClient, binding: Object) -> None:
    """What the operator would have done, as far as the rights of whoever asks allow it."""
    metadata = binding["metadata"]
    try:
        spec = Spec.model_validate(binding["spec"])
    except ValidationError:  # then no operator served it
        return
    left = Binding(
        namespace=metadata["namespace"],
        name=metadata["name"],
        spec=lambda: spec,
        generation=lambda: 0,
        status={},
    )
    try:
        await run_secrets.release(left, kube)
    except Unavailable as error:
        print(f"{left.key}: its Secrets may stay: {error}")


def _name(binding: Object) -> str:
    return f"{binding['metadata']['namespace']}/{binding['metadata']['name']}"
