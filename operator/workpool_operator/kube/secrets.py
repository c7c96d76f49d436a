"""Writes the Secrets that the pods of runs refer to; never reads a value of a Secret.

A Secret serves either all Jobs of an owner (`apply`, `release`) or one Job (`create`, `adopt`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from workpool_operator.errors import KubernetesConflict, KubernetesNotFound
from workpool_operator.kube import models
from workpool_operator.kube.client import MERGE_PATCH, METADATA_ONLY, SECRETS, KubernetesClient
from workpool_operator.kube.models import Job, Metadata, Page

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore"))
class SecretMetadata:
    """A Secret of which only the metadata was read."""

    metadata: Metadata


_secret_metadata: TypeAdapter[Page[SecretMetadata]] = TypeAdapter(Page[SecretMetadata])


async def apply(kube: KubernetesClient, namespace: str, secret: Object) -> None:
    """Create the Secret or merge `secret` into it; keys whose value is null are removed.

    It can be repeated: without a difference nothing changes.
    """
    name = secret["metadata"]["name"]
    try:
        path = SECRETS.path(namespace, name)
        await kube.request("PATCH", path, body=secret, content_type=MERGE_PATCH)
    except KubernetesNotFound:
        data = {key: value for key, value in secret["data"].items() if value is not None}
        await kube.request("POST", SECRETS.path(namespace), body={**secret, "data": data})


async def release(
    kube: KubernetesClient, namespace: str, name: str, *, jobs: Iterable[Job]
) -> None:
    """Have the Secret deleted with the last of the Jobs that have not ended; without one, delete it
    now."""
    owners = [_owner(job) for job in jobs if not job.ended]
    if owners:
        change = {"metadata": {"ownerReferences": owners}}
        await _unless_gone(kube, "PATCH", SECRETS.path(namespace, name), change)
    else:
        await delete(kube, namespace, name)


async def create(kube: KubernetesClient, namespace: str, secret: Object) -> bool:
    """Create the Secret; return False if one of that name exists."""
    try:
        await kube.request("POST", SECRETS.path(namespace), body=secret)
    except KubernetesConflict:
        return False
    return True


async def adopt(kube: KubernetesClient, namespace: str, name: str, *, job: Job) -> None:
    """Make the Job the owner of the Secret, if it exists: Kubernetes then deletes both together."""
    metadata = {"ownerReferences": [_owner(job)], "labels": {models.WAITS_FOR_JOB_LABEL: None}}
    await _unless_gone(kube, "PATCH", SECRETS.path(namespace, name), {"metadata": metadata})


async def list_unowned(
    kube: KubernetesClient, namespace: str, *, selector: str
) -> tuple[SecretMetadata, ...]:
    """Return the Secrets that no Job owns yet; request only their metadata."""
    query = {"labelSelector": f"{selector},{models.WAITS_FOR_JOB_LABEL}"}
    body = await kube.request("GET", SECRETS.path(namespace), query=query, accept=METADATA_ONLY)
    return models.decode(_secret_metadata, body).items


async def delete(
    kube: KubernetesClient, namespace: str, name: str, *, uid: str | None = None
) -> None:
    """Delete the Secret, if it exists; with a uid, only the one that has it."""
    options = {"preconditions": {"uid": uid}} if uid else {}
    await _unless_gone(kube, "DELETE", SECRETS.path(namespace, name), options)


def _owner(job: Job) -> dict[str, str]:
    uid = job.metadata.uid
    return {"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": uid}


async def _unless_gone(kube: KubernetesClient, method: str, path: str, body: Object) -> None:
    """Send the request; do nothing if the object was deleted or replaced."""
    content_type = MERGE_PATCH if method == "PATCH" else "application/json"
    with suppress(KubernetesNotFound, KubernetesConflict):
        await kube.request(method, path, body=body, content_type=content_type)
