"""Creates a Job in the cluster, with its environment in a Secret if the settings ask for it.

If a Job of the claim's name exists and its pod template names the claim, it is the run's: repeating
a creation creates nothing twice (docs/races.md, 14). The Secret is created before its Job, so that
no pod waits for it, and the Job then owns it. If the API server refuses the Job, its Secret is
deleted. If the operator is killed between the two, the next attempt or the SecretCollector
completes them.
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
    """A Job; `secret` is the name of the Secret that holds its environment, "" without one."""

    job: Job
    secret: str = ""


async def always_consents() -> None:
    """Consent, for the Jobs of workers: a worker's own RBAC rights decide where it creates Jobs."""


class JobWriter:
    """Creates Jobs.

    `environment_secret()` returns whether plain environments go into Secrets. `consent()` raises if
    the namespace does not admit the binding's Jobs. It is checked here because the Prefect server
    decides which runs are claimed.
    """

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
            BindingFault: the namespace does not admit it.
            KubernetesRefused: it does not exist; its name may be in use.
            RenderError: its environment is larger than a Secret can be.
            KubernetesUnavailable: it may exist or not; try again.
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
        """Return the Job of an earlier attempt. Without one, create its Secret again: its values
        may have changed, and a collector that deletes the old one must not delete the new one."""
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
        """Return the Job of the manifest's name if it is this claim's."""
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
            log.debug("Secret %s gets its owner from the next collection: %s", secret, error)


def _namespace(manifest: Object) -> str:
    return str(manifest["metadata"]["namespace"])
