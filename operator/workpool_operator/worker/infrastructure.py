"""End the Job that a run's `infrastructure_pid` names, if it is one that this pool's workers made.

Prefect asks for it when a run is cancelled that its own process does not end. Whoever answers "not
found" to a Job of another cluster would have it live on: the claim tells the two apart.
"""

from __future__ import annotations

from uuid import UUID

from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound

from workpool_operator.errors import KubernetesNotFound, KubernetesRefused
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.models import BINDING_LABEL
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.runs.claims import claims_in
from workpool_operator.runs.owner import Owner


def parse_infrastructure_pid(infrastructure_pid: str) -> tuple[str, str]:
    """Namespace and Job name.

    Raises:
        ValueError: it has not the form of a pid of ours.
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
        InfrastructureNotFound: there is none of that name.
        InfrastructureNotAvailable: it is not ours, or we have no right to it.
    """
    try:
        job = await kube.get(JOBS, namespace, name)
        if job.spec.template.labels.get(BINDING_LABEL) != owner.binding_id:
            raise InfrastructureNotAvailable(
                f"Job {namespace}/{name} was not made by a worker of this pool on this cluster."
            )
        await kube.delete(JOBS, namespace, name, uid=job.metadata.uid, grace_seconds=grace_seconds)
    except KubernetesNotFound as refused:
        raise InfrastructureNotFound(f"Job {namespace}/{name} does not exist.") from refused
    except KubernetesRefused as refused:
        raise InfrastructureNotAvailable(f"Job {namespace}/{name}: {refused}") from refused


async def was_created_here(api: PrefectApi, owner: Owner, run_id: UUID, name: str) -> bool:
    """The Job of that name was made for a claim of ours, whether or not it still exists."""
    mine = owner.transition_id(run_id)
    history = await api.history(run_id)
    return any(claim.is_job_name(name, run_id=run_id) for claim in claims_in(history, {mine}))
