"""Where the runs of a binding go: the same for its session and for a command."""

from __future__ import annotations

from uuid import UUID

from workpool_operator.binding.context import Binding
from workpool_operator.jobs import names
from workpool_operator.jobs.credentials import Credentials
from workpool_operator.runs.owner import Owner


def owner_of(
    binding: Binding,
    *,
    cluster_id: str,
    server_url: str,
    pool_id: UUID,
    credentials: Credentials,
    template_environment: frozenset[str],
) -> Owner:
    """For the server that the operator reaches at `server_url`; pods have the credentials by
    reference only."""
    spec = binding.spec()
    url = spec.jobs.server_url or spec.server.url or ""
    return Owner(
        cluster_id=cluster_id,
        binding=binding.key,
        binding_id=names.binding_id(cluster_id=cluster_id, binding=binding.key),
        worker_name=names.worker_name(
            cluster_id=cluster_id, namespace=binding.namespace, name=binding.name
        ),
        namespace=spec.jobs.namespace or binding.namespace,
        server_url=server_url,
        pool_id=pool_id,
        environment=({"name": "PREFECT_API_URL", "value": url}, *credentials.entries),
        ca=credentials.ca,
        template_environment=template_environment,
    )
