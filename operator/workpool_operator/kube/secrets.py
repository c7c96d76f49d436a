"""Writes of the Secrets that run pods refer to. Reads no value of any Secret.

Knows two kinds: one that is kept for all Jobs of an owner, and one that belongs to a single Job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from workpool_operator.errors import KubernetesConflict, KubernetesNotFound
from workpool_operator.kube import models
from workpool_operator.kube.client import MERGE_PATCH, SECRETS, KubernetesClient
from workpool_operator.kube.models import Job, Metadata, Page

Object = Mapping[str, Any]
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore"))
class SecretMetadata:
    """A Secret of which nothing but the metadata was read."""

    metadata: Metadata


_secret_metadata: TypeAdapter[Page[SecretMetadata]] = TypeAdapter(Page[SecretMetadata])


async def apply(kube: KubernetesClient, namespace: str, secret: Object) -> None:
    """Make the Secret what `secret` says, whether it exists or not; nulls are taken away.

    Without an effect where nothing changed, so that it may be repeated often.
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
    """Keep the Secret no longer: it goes with the last of the Jobs that still need it, or now."""
    owners = [_owner(job) for job in jobs if not job.ended]
    if owners:
        change = {"metadata": {"ownerReferences": owners}}
        await _unless_gone(kube, "PATCH", SECRETS.path(namespace, name), change)
    else:
        await delete(kube, namespace, name)


async def create(kube: KubernetesClient, namespace: str, secret: Object) -> bool:
    """Create the Secret; False where there is one of that name."""
    try:
        await kube.request("POST", SECRETS.path(namespace), body=secret)
    except KubernetesConflict:
        return False
    return True


async def adopt(kube: KubernetesClient, namespace: str, name: str, *, job: Job) -> None:
    """Make the Secret, if it exists, that Job's own: it goes when the Job goes."""
    metadata = {"ownerReferences": [_owner(job)], "labels": {models.WAITS_FOR_JOB_LABEL: None}}
    await _unless_gone(kube, "PATCH", SECRETS.path(namespace, name), {"metadata": metadata})


async def list_unowned(
    kube: KubernetesClient, namespace: str, *, selector: str
) -> tuple[SecretMetadata, ...]:
    """The Secrets that belong to no Job yet; asks for nothing but their metadata."""
    query = {"labelSelector": f"{selector},{models.WAITS_FOR_JOB_LABEL}"}
    body = await kube.request("GET", SECRETS.path(namespace), query=query, accept=_METADATA_ONLY)
    return models.decode(_secret_metadata, body).items


async def delete(
    kube: KubernetesClient, namespace: str, name: str, *, uid: str | None = None
) -> None:
    """Delete the Secret, if it exists; with a uid, only that very one."""
    options = {"preconditions": {"uid": uid}} if uid else {}
    await _unless_gone(kube, "DELETE", SECRETS.path(namespace, name), options)


def _owner(job: Job) -> dict[str, str]:
    uid = job.metadata.uid
    return {"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": uid}


async def _unless_gone(kube: KubernetesClient, method: str, path: str, body: Object) -> None:
    """The request, which has nothing to do where the object is gone or another one."""
    content_type = MERGE_PATCH if method == "PATCH" else "application/json"
    with suppress(KubernetesNotFound, KubernetesConflict):
        await kube.request(method, path, body=body, content_type=content_type)
