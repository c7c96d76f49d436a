"""Whose runs these are and where their Jobs go; fixed for as long as a binding is served. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from workpool_operator.jobs import names
from workpool_operator.jobs.certificates import CASource
from workpool_operator.jobs.manifest import Identity
from workpool_operator.kube import models
from workpool_operator.kube.models import Job
from workpool_operator.prefect_api.models import SetStateResult
from workpool_operator.runs.claims import Claim


@dataclass(frozen=True, slots=True)
class Owner:
    """One binding or worker, one server, one pool.

    `namespace` is that of every Job, "" if each Job's is its own.

    `exclusive`: several processes claim under the same transition ids at the same time, as the
    workers of one pool do, and each keeps to the runs that it claimed itself.
    """

    cluster_id: str
    binding: str  # namespace/name
    binding_id: str
    worker_name: str
    namespace: str
    server_url: str
    pool_id: UUID
    environment: tuple[dict[str, Any], ...]
    ca: CASource | None = None
    template_environment: frozenset[str] = frozenset()  # what templates read of the operator's own
    exclusive: bool = False

    def transition_id(self, run_id: UUID) -> UUID:
        """What proves that a claim on the run is ours."""
        return names.transition_id(
            cluster_id=self.cluster_id, binding=self.binding, pool_id=self.pool_id, run_id=run_id
        )

    def is_granted(self, answer: SetStateResult) -> bool:
        """Return whether the answer to a proposed claim of ours makes the run this process's.

        A claim that stands already is proved by its transition id, so that a lost answer is asked
        for again. An exclusive owner needs the acceptance of this very proposal: another process
        may have made the same one.
        """
        return answer.accepted or not self.exclusive

    def transition_ids(self, run_id: UUID, jobs: Iterable[Job]) -> Set[UUID]:
        """What proves one: also an earlier pool's, of which the run's Jobs tell. A pool that is
        deleted and made anew has another id, while its runs go on."""
        pools = {pool for job in jobs if self._is_of_server(job) and (pool := _pool_of(job))}
        return {
            replace(self, pool_id=pool).transition_id(run_id) for pool in {self.pool_id, *pools}
        }

    def identity(self, run_id: UUID, claim: Claim, *, namespace: str = "") -> Identity:
        """What the Job of the claim carries; the namespace is the owner's unless it has none."""
        return Identity(
            run_id=run_id,
            claim_id=claim.id,
            pool_id=self.pool_id,
            binding=self.binding,
            binding_id=self.binding_id,
            server=self.server_url,
            namespace=self.namespace or namespace,
        )

    def owns(self, job: Job) -> bool:
        """The Job was made for this pool on this server: a changed URL must not end every Job of
        the server before."""
        return self._is_of_server(job) and _pool_of(job) == self.pool_id

    def _is_of_server(self, job: Job) -> bool:
        return job.metadata.annotations.get(models.SERVER_ANNOTATION) == self.server_url


def _pool_of(job: Job) -> UUID | None:
    try:
        return UUID(job.spec.template.labels.get(models.POOL_LABEL, ""))
    except ValueError:
        return None
