"""Brings a Job into the cluster, if asked with its environment in a Secret. Decides nothing.

A Job of the claim's name that exists already is the run's if its pod template says so: a replay
creates nothing twice (docs/races.md, 14). A Secret is there before its Job, so that no pod waits
for it, and belongs to the Job from then on; of a Job that is refused no Secret is left. What a kill
leaves between the two is taken up by the replay, or else by the sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workpool_operator.errors import (
    KubernetesConflict,
    KubernetesNotFound,
    KubernetesRefused,
    OperatorError,
    SecretRefused,
)
from workpool_operator.jobs.environment_secret import JobWithSecret, extract_environment
from workpool_operator.kube import permissions, secrets
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.models import Job

log = logging.getLogger(__name__)

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """`secret` is the name of the Secret that holds the Job's environment, "" without one."""

    job: Job
    secret: str = ""


async def always_consents() -> None:
    """For Jobs of no binding: whoever starts a worker gives it the rights that it has."""


class JobWriter:
    """`environment_secret()` says whether plain environments go through Secrets now; `consent()`
    raises while the namespace does not let the binding's Jobs in. The server decides which runs are
    claimed, so that a namespace is not safe unless it is asked here."""

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        environment_secret: Callable[[], bool],
        consent: Callable[[], Awaitable[None]],
    ) -> None:
        self._kube = kube
        self._consent = consent
        self._environment_secret = environment_secret

    async def create(self, manifest: Object, *, claim_id: UUID) -> CreatedJob:
        """Return the Job that the manifest asks for, created now or by an earlier attempt.

        Raises:
            BindingFault: the namespace does not let it in.
            KubernetesRefused: there is none; its name may be another's.
            RenderError: its environment is more than a Secret holds.
            KubernetesUnavailable: nobody knows; ask again.
        """
        await self._consent()
        wanted = (
            extract_environment(manifest)
            if self._environment_secret()
            else JobWithSecret(dict(manifest), None)
        )
        if wanted.secret is None:
            return CreatedJob(await self._create_or_get(wanted.job, claim_id))
        return await self._create_with(wanted.secret, wanted.job, claim_id)

    async def grant(self, refused: KubernetesRefused, namespace: str) -> str:
        """Return how to give the operator the right that it lacks in the namespace."""
        lacks = isinstance(refused, SecretRefused)
        role = permissions.WRITE_SECRETS_ROLE if lacks else permissions.JOBS_ROLE
        return await permissions.how_to_grant(self._kube, namespace, role)

    async def _create_with(self, secret: Object, manifest: Object, claim_id: UUID) -> CreatedJob:
        name, namespace = secret["metadata"]["name"], _namespace(manifest)
        job = None
        if not await self._create_secret(namespace, secret):
            job = await self._earlier(secret, manifest, claim_id)
        if job is None:
            job = await self._create_or_delete_secret(name, manifest, claim_id)
        await self._adopt_secret(namespace, name, job)
        return CreatedJob(job, secret=name)

    async def _create_secret(self, namespace: str, secret: Object) -> bool:
        try:
            return await secrets.create(self._kube, namespace, secret)
        except KubernetesRefused as refused:
            raise SecretRefused(refused) from refused

    async def _earlier(self, secret: Object, manifest: Object, claim_id: UUID) -> Job | None:
        """Return the Job of an earlier attempt. Without one its Secret is made anew: the values may
        be others by now, and whoever sweeps the old one away must miss the new one."""
        with suppress(KubernetesNotFound):
            return await self._get_own_job(manifest, claim_id)
        namespace = _namespace(manifest)
        await secrets.delete(self._kube, namespace, secret["metadata"]["name"])
        await self._create_secret(namespace, secret)
        return None

    async def _create_or_delete_secret(self, secret: str, manifest: Object, claim_id: UUID) -> Job:
        try:
            return await self._create_or_get(manifest, claim_id)
        except KubernetesRefused:
            await secrets.delete(self._kube, _namespace(manifest), secret)
            raise

    async def _create_or_get(self, manifest: Object, claim_id: UUID) -> Job:
        try:
            return await self._kube.create(JOBS, _namespace(manifest), manifest)
        except KubernetesConflict:
            return await self._get_own_job(manifest, claim_id)

    async def _get_own_job(self, manifest: Object, claim_id: UUID) -> Job:
        """Return the Job of the manifest's name, only if it is this claim's."""
        name = manifest["metadata"]["name"]
        found = await self._kube.get(JOBS, _namespace(manifest), name)
        if found.deleting or found.claim_id != str(claim_id):
            text = f"Job {name} exists and is being deleted or is not this run's"
            raise KubernetesConflict(text)
        return found

    async def _adopt_secret(self, namespace: str, secret: str, job: Job) -> None:
        try:
            await secrets.adopt(self._kube, namespace, secret, job=job)
        except OperatorError as error:
            log.debug("Secret %s is given to its Job by the next sweep: %s", secret, error)


def _namespace(manifest: Object) -> str:
    return str(manifest["metadata"]["namespace"])
