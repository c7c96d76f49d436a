"""Collects environment Secrets without an owner.

The operator leaves one if it is killed, or gets no answer, between the creation of the Secret and
that of its Job. The Job becomes its owner; if there is no Job, the Secret is deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import KubernetesForbidden, OperatorError
from workpool_operator.jobs.secrets import environment_secret_name
from workpool_operator.kube import secrets
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.kube.models import BINDING_LABEL, Job
from workpool_operator.kube.secrets import SecretMetadata

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 300.0
GRACE = timedelta(minutes=10)  # far longer than the requests between a Secret and its Job take


async def collect(
    kube: KubernetesClient,
    namespace: str,
    *,
    binding_id: str,
    jobs: Iterable[Job],
    before: datetime | None = None,
) -> None:
    """Collect the Secrets of the namespace once; `jobs` are all Jobs of the binding. Delete only
    Secrets that were created before `before`; all if it is None."""
    owners = {environment_secret_name(job.name): job for job in jobs}
    selector = f"{BINDING_LABEL}={binding_id}"
    for found in await secrets.list_unowned(kube, namespace, selector=selector):
        name, uid = found.metadata.name, found.metadata.uid
        if job := owners.get(name):
            await secrets.adopt(kube, namespace, name, job=job)
        elif before is None or _is_older(found, before):
            log.info("deleting Secret %s/%s: its Job was never created", namespace, name)
            await secrets.delete(kube, namespace, name, uid=uid)


class SecretCollector:
    """Collects in each namespace once it is synced, and every five minutes, if `is_enabled()`."""

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        binding_id: str,
        cluster: ClusterCache,
        is_enabled: Callable[[], bool],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._binding_id = binding_id
        self._cluster = cluster
        self._is_enabled = is_enabled
        self._clock = clock
        self._known: set[str] = set()
        self._wake = asyncio.Event()

    def synced(self, namespace: str) -> None:
        """Collect now if the namespace is new."""
        if namespace not in self._known:
            self._known.add(namespace)
            self._wake.set()

    async def run(self) -> None:
        """Collect until cancelled; a failure does not end the loop."""
        while True:
            self._wake.clear()
            for namespace in self._cluster.namespaces:
                if self._is_enabled() and self._cluster.is_synced(namespace):
                    await self._collect(namespace)
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await self._wake.wait()

    async def _collect(self, namespace: str) -> None:
        try:
            await collect(
                self._kube,
                namespace,
                binding_id=self._binding_id,
                jobs=list(self._cluster.jobs),
                before=self._clock.now() - GRACE,
            )
        except OperatorError as error:
            missing_right = isinstance(error, KubernetesForbidden)
            level = logging.DEBUG if missing_right else logging.WARNING  # JobsPermitted names it
            log.log(level, "cannot collect environment Secrets: %s", error)


def _is_older(found: SecretMetadata, when: datetime) -> bool:
    created = found.metadata.creation_timestamp
    return created is not None and created <= when
