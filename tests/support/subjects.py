"""One run with its deployment and pool, as the server's documents have them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient

from tests.support.kube import Object
from tests.support.prefect import stock_template
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.render import render_manifest

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
URL = {"name": "PREFECT_API_URL", "value": "http://server/api"}
KEY = {
    "name": "PREFECT_API_KEY",
    "valueFrom": {"secretKeyRef": {"name": "prefect", "key": "key"}},
}
_MADE = {"created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z"}


def subject(
    *,
    run: Any = None,
    deployment: Any = None,
    base: Any = STOCK,
    names: str | None = None,
    environment: Sequence[Object] = (URL,),
    template_environment: Collection[str] = (),
) -> RenderInput:
    """Return a run of a deployment, with these job variables, in a pool with this template.

    `names` are those of the run, its flow, deployment and pool.
    """
    return RenderInput(
        run={
            "id": str(RUN),
            "name": names or "brave-lynx",
            "flow_id": str(POOL),
            "job_variables": run,
        },
        flow={"id": str(POOL), "name": names or "hello", **_MADE},
        deployment={
            "id": str(CLAIM),
            "name": names or "demo",
            "flow_id": str(POOL),
            "job_variables": deployment or {},
            **_MADE,
        },
        pool={
            "id": str(POOL),
            "name": names or "etl",
            "type": "kubernetes",
            "base_job_template": stock_template() if base is STOCK else base,
        },
        worker_name="etl.data@cluster",
        environment=tuple(environment),
        template_environment=frozenset(template_environment),
    )


async def render(client: PrefectClient, **given: Any) -> Object:
    """Return the Job's manifest of `subject(**given)`, whose server asks for an API key."""
    of = subject(environment=(URL, KEY), **given)
    return await render_manifest(of, IDENTITY, client=client)


def with_container(**fields: Any) -> Object:
    """Return the stock template with these fields in its container."""
    base = stock_template()
    spec = base["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    spec["containers"][0].update(fields)
    return base


def container(manifest: Object) -> Object:
    found: Object = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def env(manifest: Object) -> Object:
    """Return the container's environment, in which no name may be twice."""
    entries = container(manifest)["env"]
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names))
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in entries}
