"""The identity that claims runs and owns their Jobs; fixed for one connection. Pure."""

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
    """One binding or worker on one server and pool.

    `namespace` is the namespace of every Job, "" if each Job has its own. `exclusive` owners share
    their transition ids with other processes, as the workers of one pool do: each process keeps to
    the runs that it claimed itself.
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
    template_environment: frozenset[str] = frozenset()  # variables that templates may read
    exclusive: bool = False

    def transition_id(self, run_id: UUID) -> UUID:
        """Return the id that proves that a claim on the run is ours."""
        return names.transition_id(
            cluster_id=self.cluster_id, binding=self.binding, pool_id=self.pool_id, run_id=run_id
        )

    def is_granted(self, answer: SetStateResult) -> bool:
        """Return whether the answer to a proposed claim of ours makes the run this process's.

        Usually the transition id in the answer is proof enough, so that a claim can be repeated
        after a lost answer. An exclusive owner needs the acceptance of this proposal: another
        process can have made the same one.
        """
        return answer.accepted or not self.exclusive

    def transition_ids(self, run_id: UUID, jobs: Iterable[Job]) -> Set[UUID]:
        """Return every id that proves a claim of ours: also for the pools in the labels of the
        run's Jobs. A pool that was deleted and created again has a new id; its runs continue."""
        pools = {pool for job in jobs if self._is_of_server(job) and (pool := _pool_of(job))}
        return {
            replace(self, pool_id=pool).transition_id(run_id) for pool in {self.pool_id, *pools}
        }

    def identity(self, run_id: UUID, claim: Claim, *, namespace: str = "") -> Identity:
        """Return what the Job of the claim carries; `namespace` counts if the owner has none."""
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
        """Return whether the Job was created for this pool on this server: after a change of the
        URL, the Jobs of the previous server must not be deleted."""
        return self._is_of_server(job) and _pool_of(job) == self.pool_id

    def _is_of_server(self, job: Job) -> bool:
        return job.metadata.annotations.get(models.SERVER_ANNOTATION) == self.server_url


def _pool_of(job: Job) -> UUID | None:
    try:
        return UUID(job.spec.template.labels.get(models.POOL_LABEL, ""))
    except ValueError:
        return None
