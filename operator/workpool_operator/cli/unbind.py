"""`workpool-operator unbind`: delete bindings so that none is left waiting for its finalizer.

It lists them, asks, and deletes exactly those: a binding that is made again meanwhile is another
one. An uninstallation runs it first, while an operator still lives that gives the finalizers up.
Where none does, they are removed after a while, and Prefect goes on listing the worker as OFFLINE;
the Secrets that a binding kept in another namespace are deleted then if the caller has the right
to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import typer
from pydantic import ValidationError

from workpool_operator.api import v1alpha1
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import secrets
from workpool_operator.binding.context import Binding
from workpool_operator.binding.status import BINDINGS
from workpool_operator.cli import output
from workpool_operator.errors import (
    KubernetesConflict,
    KubernetesNotFound,
    KubernetesRefused,
    OperatorError,
    Unavailable,
)
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.kube.client import MERGE_PATCH, KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig

POLL_SECONDS = 0.5
RELEASED_SECONDS = 10.0  # for the API server to remove what no longer has our finalizer

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """Bindings of some namespaces (none: of all) that match a label selector, of one cluster."""

    namespaces: tuple[str, ...]
    selector: str
    kubeconfig: Kubeconfig
    patience_seconds: float
    dry_run: bool
    yes: bool

    @property
    def paths(self) -> list[str]:
        """The API paths that list the selected bindings."""
        everywhere = f"{BINDINGS.api}/{BINDINGS.plural}"
        return [BINDINGS.path(namespace) for namespace in self.namespaces] or [everywhere]


def main(options: Options) -> None:
    """Return once no selected binding is left; exit code 1 where one is."""
    with output.errors_in_one_line(), output.silence_logs():
        found = asyncio.run(_show(options))
        if not found:
            return
        if options.dry_run:
            output.echo("nothing deleted (dry run)")
            return
        if not options.yes:
            _confirm(len(found))
        left = asyncio.run(_delete(found, options))
    if left:
        raise typer.Exit(1)


def _confirm(number: int) -> None:
    """Outside of an event loop, which would keep Ctrl-C to itself."""
    output.echo_note("their Jobs stay; what runs goes on, and nothing follows it any more")
    question = f"Delete {'this binding' if number == 1 else f'these {number} bindings'}?"
    if not typer.confirm(question, err=True):
        output.echo("nothing deleted")
        raise typer.Exit(1)


async def _show(options: Options) -> list[Object]:
    async with await KubernetesClient.from_environment(options.kubeconfig) as kube:
        try:
            found = await _listed(kube, options)
        except Unavailable as error:
            raise OperatorError(f"cannot reach {kube.address}: {error}") from error
        except KubernetesNotFound:
            output.echo_note(f"{kube.address} has no {v1alpha1.PLURAL}: the CRD is not installed")
            found = []
        except KubernetesRefused as refused:
            raise OperatorError(f"{kube.address}: {refused}") from refused
        where = f"in {kube.address}"
    if not found:
        output.echo(f"no binding to delete {where}")
        return found
    output.echo(f"{len(found)} {'binding' if len(found) == 1 else 'bindings'} {where}:")
    for binding in found:
        output.echo(f"  {_name(binding)}  {_describe(binding)}")
    return found


def _describe(binding: Object) -> str:
    """What a person has to know before it goes."""
    pool = get_path(binding, ("spec", "workPool", "name"))
    runs = [get_path(binding, ("status", "runs", each)) or 0 for each in ("running", "pending")]
    text = f"work pool {pool!r}, {runs[0]} runs running, {runs[1]} pending"
    return (
        f"{text}, being deleted" if get_path(binding, ("metadata", "deletionTimestamp")) else text
    )


async def _delete(bindings: Sequence[Object], options: Options) -> list[Object]:
    """The bindings that are still there after all."""
    async with await KubernetesClient.from_environment(options.kubeconfig) as kube:
        for binding in bindings:
            preconditions = {"uid": binding["metadata"]["uid"]}
            await _unless_gone(kube, "DELETE", binding, {"preconditions": preconditions})
        left = await _left_after(options.patience_seconds, bindings, kube, options)
        for binding in left:
            why = f"no operator released it in {options.patience_seconds:g} s"
            output.echo(f"{_name(binding)}: finalizer removed, as {why}")
            await _release_secrets(kube, binding)
            await _remove_finalizer(kube, binding)
        left = await _left_after(RELEASED_SECONDS, left, kube, options)
    for binding in left:
        held = ", ".join(binding["metadata"].get("finalizers", [])) or "nothing that it names"
        output.echo_error(f"{_name(binding)} is still there, held by {held}")
    return left


async def _left_after(
    seconds: float, bindings: Iterable[Object], kube: KubernetesClient, options: Options
) -> list[Object]:
    """Those that are still there, empty as soon as none is; says which ones are gone."""
    deadline = asyncio.get_running_loop().time() + seconds
    left = {_uid(binding): binding for binding in bindings}
    while left:
        there = {_uid(each): each for each in await _listed(kube, options) if _uid(each) in left}
        for uid in left.keys() - there.keys():
            output.echo(f"{_name(left[uid])}: deleted")
        left = there
        if left and asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(POLL_SECONDS if left else 0)
    return list(left.values())


async def _listed(kube: KubernetesClient, options: Options) -> list[Object]:
    query = {"labelSelector": options.selector} if options.selector else {}
    pages = [json.loads(await kube.request("GET", p, query=query)) for p in options.paths]
    return [binding for page in pages for binding in page["items"]]


async def _unless_gone(kube: KubernetesClient, method: str, binding: Object, body: Object) -> None:
    """Nothing to do where there is none, or another or changed one of the name."""
    metadata = binding["metadata"]
    path = BINDINGS.path(metadata["namespace"], metadata["name"])
    content_type = MERGE_PATCH if method == "PATCH" else "application/json"
    with suppress(KubernetesNotFound, KubernetesConflict):
        await kube.request(method, path, body=body, content_type=content_type)


async def _remove_finalizer(kube: KubernetesClient, binding: Object) -> None:
    """Ours; what others wait for is theirs."""
    others = [
        each for each in binding["metadata"].get("finalizers", []) if each != v1alpha1.FINALIZER
    ]
    version = binding["metadata"]["resourceVersion"]
    patch = {"metadata": {"finalizers": others or None, "resourceVersion": version}}
    await _unless_gone(kube, "PATCH", binding, patch)


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
        await secrets.release_secrets(left, kube)
    except Unavailable as error:
        output.echo_note(f"{left.key}: its Secrets may stay: {error}")


def _name(binding: Object) -> str:
    return f"{binding['metadata']['namespace']}/{binding['metadata']['name']}"


def _uid(binding: Object) -> str:
    return str(binding["metadata"]["uid"])
