"""One run with its deployment and pool, as the server's documents have them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.support.kube import Object
from tests.support.prefect import stock_template
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity

RUN = UUID("11111111-1111-4111-8111-111111111111")
CLAIM = UUID("22222222-2222-4222-8222-222222222222")
POOL = UUID("33333333-3333-4333-8333-333333333333")
IDENTITY = Identity(
    run_id=RUN,
    claim_id=CLAIM,
    pool_id=POOL,
    binding="data/etl",
    binding_id="b" * 32,
    server="http://server/api",
    namespace="data",
)
STOCK = object()  # its template
_MADE = {"created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z"}


def subject(
    *,
    run: Any = None,
    deployment: Any = None,
    base: Any = STOCK,
    names: str = "hello",
) -> RenderInput:
    """A run of a deployment, with these job variables, in a pool with this template."""
    flow_run: Object = {"id": str(RUN), "name": names, "flow_id": str(POOL), "job_variables": run}
    return RenderInput(
        run=flow_run,
        flow={"id": str(POOL), "name": names, **_MADE},
        deployment={
            "id": str(CLAIM),
            "name": names,
            "flow_id": str(POOL),
            "job_variables": deployment or {},
            **_MADE,
        },
        pool={
            "id": str(POOL),
            "name": names,
            "type": "kubernetes",
            "base_job_template": stock_template() if base is STOCK else base,
        },
        worker_name="etl.data@cluster",
        environment=({"name": "PREFECT_API_URL", "value": "http://server/api"},),
    )
