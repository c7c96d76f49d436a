"""Deletes the Job that a run's `infrastructure_pid` names, if a worker of this pool created it.

Prefect requests it when a run is cancelled and its own process does not end. InfrastructureNotFound
for a Job of another cluster would leave that Job running, so the claims in the run's history are
compared with ours.
"""

from __future__ import annotations

from uuid import UUID

from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound

from workpool_operator.errors import KubernetesNotFound, KubernetesRefused
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.models import BINDING_LABEL
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.runs.claims import Owner, claims_in


def parse_infrastructure_pid(infrastructure_pid: str) -> tuple[str, str]:
    """Return namespace and Job name.

    Raises:
        ValueError: the pid is not `namespace:job-name`.
    """
    namespace, colon, name = infrastructure_pid.partition(":")
    if not (namespace and colon and name) or ":" in name:
        raise ValueError(
            f"infrastructure_pid: expected 'namespace:job-name', got {infrastructure_pid!r}"
        )
    return namespace, name


async def kill(
    kube: KubernetesClient, owner: Owner, namespace: str, name: str, *, grace_seconds: int
) -> None:
    """Delete the Job in the foreground.

    Raises:
        InfrastructureNotFound: no Job has that name.
        InfrastructureNotAvailable: another owner created it, or a right is missing.
    """
    try:
        job = await kube.get(JOBS, namespace, name)
        if job.spec.template.labels.get(BINDING_LABEL) != owner.binding_id:
            raise InfrastructureNotAvailable(
                f"Job {namespace}/{name} was not created by a worker of this pool on this cluster."
            )
        await kube.delete(JOBS, namespace, name, uid=job.metadata.uid, grace_seconds=grace_seconds)
    except KubernetesNotFound as refused:
        raise InfrastructureNotFound(f"Job {namespace}/{name} does not exist.") from refused
    except KubernetesRefused as refused:
        raise InfrastructureNotAvailable(f"Job {namespace}/{name}: {refused}") from refused


async def was_created_here(api: PrefectApi, owner: Owner, run_id: UUID, name: str) -> bool:
    """Return whether the Job, which may be deleted, was created for a claim of ours."""
    mine = owner.transition_id(run_id)
    history = await api.history(run_id)
    return any(claim.is_job_name(name, run_id=run_id) for claim in claims_in(history, {mine}))
