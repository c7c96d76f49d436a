"""`workpool-operator unbind`: deletes bindings, and their finalizers if no operator does.

It lists the bindings, asks for confirmation, and deletes exactly these by UID: a binding that is
created again in the meantime stays. Run it before an uninstallation, while an operator is running
that removes the finalizers. If none is, the command removes them after `--patience-seconds`. A
binding whose deletionPolicy waits for its runs is waited for while an operator renews its Lease.
It then also deletes the Secrets that a binding has in another namespace, if the caller may do so.
Prefect continues to list the worker, as OFFLINE.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import typer
from pydantic import ValidationError

from workpool_operator.binding import finalizers, secrets
from workpool_operator.binding.status import BINDINGS
from workpool_operator.cli import output
from workpool_operator.cli.binding_list import NotInstalled, list_bindings
from workpool_operator.cli.binding_lookup import binding_of
from workpool_operator.cli.objects import key_of, pool_name
from workpool_operator.cli.patience import PatientKubernetesClient
from workpool_operator.errors import (
    KubernetesConflict,
    KubernetesNotFound,
    KubernetesRefused,
    Unavailable,
)
from workpool_operator.jobs import names
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.kube.client import LEASES, KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.kube.leases import LEASE_SECONDS

POLL_SECONDS = 0.5
REMOVAL_SECONDS = 10.0  # for the API server to remove a binding without our finalizer

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command; no namespace means all namespaces."""

    namespaces: tuple[str, ...]
    selector: str
    kubeconfig: Kubeconfig
    patience_seconds: float
    dry_run: bool
    yes: bool


def main(options: Options) -> None:
    """Delete the selected bindings; exit with 1 if one of them remains."""
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
    """Ask outside an event loop, which would intercept Ctrl-C."""
    output.echo_note(
        "by deletionPolicy Orphan, running Jobs continue, and nothing reports their end; by Drain "
        "or Cancel, the binding is deleted when its runs have ended or are cancelled"
    )
    question = f"Delete {'this binding' if number == 1 else f'these {number} bindings'}?"
    if not typer.confirm(question, err=True):
        output.echo("nothing deleted")
        raise typer.Exit(1)


async def _show(options: Options) -> list[Object]:
    async with await PatientKubernetesClient.from_environment(options.kubeconfig) as kube:
        try:
            found = await _listed(kube, options)
        except NotInstalled as missing:
            output.echo_note(str(missing))
            found = []
        where = f"in {kube.address}"
    if not found:
        output.echo(f"no bindings to delete {where}")
        return found
    output.echo(f"{len(found)} {'binding' if len(found) == 1 else 'bindings'} {where}:")
    for binding in found:
        output.echo(f"  {key_of(binding)}  {_describe(binding)}")
    return found


def _describe(binding: Object) -> str:
    """Return what a person should know before the binding is deleted."""
    pool = pool_name(binding.get("spec"))
    runs = [get_path(binding, ("status", "runs", each)) or 0 for each in ("running", "pending")]
    text = f"work pool {pool!r}, {runs[0]} runs running, {runs[1]} pending"
    text += f", deletionPolicy {_policy(binding)}"
    return (
        f"{text}, being deleted" if get_path(binding, ("metadata", "deletionTimestamp")) else text
    )


async def _delete(bindings: Sequence[Object], options: Options) -> list[Object]:
    """Delete the bindings; return those that remain."""
    async with await PatientKubernetesClient.from_environment(options.kubeconfig) as kube:
        for binding in bindings:
            await _delete_if_unchanged(kube, binding)
        left = await _wait_until_deleted(options.patience_seconds, bindings, kube, options)
        for binding in left:
            why = f"no operator did so within {options.patience_seconds:g} s"
            output.echo(f"{key_of(binding)}: removing the finalizer, because {why}")
            await _release_secrets(kube, binding)
            await _remove_finalizer(kube, binding)
        left = await _wait_until_deleted(REMOVAL_SECONDS, left, kube, options)
    for binding in left:
        held_by = ", ".join(binding["metadata"].get("finalizers", [])) or "none"
        output.echo_error(f"{key_of(binding)} was not deleted; its finalizers: {held_by}")
    return left


async def _wait_until_deleted(
    seconds: float, bindings: Iterable[Object], kube: KubernetesClient, options: Options
) -> list[Object]:
    """Wait until the bindings are deleted, and print each; return those that remain. Wait longer
    while an operator that waits for the runs of one renews its Lease."""
    now = asyncio.get_running_loop().time
    deadline = now() + seconds
    left = {_uid(binding): binding for binding in bindings}
    leases: dict[str, str] = {}  # the last version of each
    while left:
        found = {_uid(each): each for each in await _listed(kube, options) if _uid(each) in left}
        for uid in left.keys() - found.keys():
            output.echo(f"{key_of(left[uid])}: deleted")
        left = found
        for uid, binding in left.items():
            version = await _held_lease(kube, binding)
            if version == leases.get(uid, ""):
                continue
            if uid not in leases:
                text = f"waits for its runs (deletionPolicy {_policy(binding)})"
                output.echo(f"{key_of(binding)}: {text}")
            leases[uid], deadline = version, max(deadline, now() + LEASE_SECONDS)
        if now() > deadline:
            break
        await asyncio.sleep(POLL_SECONDS if left else 0)
    return list(left.values())


async def _held_lease(kube: KubernetesClient, binding: Object) -> str:
    """Return the version of the Lease by which an operator waits for the binding's runs, "" if none
    does."""
    if _policy(binding) == "Orphan":
        return ""
    metadata = binding["metadata"]
    try:
        lease = await kube.get(LEASES, metadata["namespace"], names.lease_name(metadata["name"]))
    except KubernetesRefused:
        return ""
    return lease.metadata.resource_version if lease.holder else ""


def _policy(binding: Object) -> str:
    return str(get_path(binding, ("spec", "deletionPolicy")) or "Orphan")


async def _listed(kube: KubernetesClient, options: Options) -> list[Object]:
    return await list_bindings(kube, options.namespaces, selector=options.selector)


async def _delete_if_unchanged(kube: KubernetesClient, binding: Object) -> None:
    """Delete the binding; do nothing if it was deleted or replaced."""
    metadata = binding["metadata"]
    path = BINDINGS.path(metadata["namespace"], metadata["name"])
    body = {"preconditions": {"uid": metadata["uid"]}}
    with suppress(KubernetesNotFound, KubernetesConflict):
        await kube.request("DELETE", path, body=body)


async def _remove_finalizer(kube: KubernetesClient, binding: Object) -> None:
    """Remove our finalizer and leave those of others."""
    metadata = binding["metadata"]
    with suppress(KubernetesConflict):  # it remains, and is reported
        await finalizers.remove(
            kube, metadata["namespace"], metadata["name"], uid=metadata["uid"], check=lambda: None
        )


async def _release_secrets(kube: KubernetesClient, binding: Object) -> None:
    """Delete the binding's Secrets in other namespaces, as far as the caller may."""
    try:
        valid = binding_of(binding)
    except ValidationError:  # no operator has served it
        return
    try:
        await secrets.release_secrets(valid, kube)
    except Unavailable as error:
        output.echo_note(f"{key_of(binding)}: cannot delete its Secrets: {error}")


def _uid(binding: Object) -> str:
    return str(binding["metadata"]["uid"])
