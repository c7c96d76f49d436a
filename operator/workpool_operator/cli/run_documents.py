"""What a Job is rendered from: the server's documents of a run, or stand-ins where there are none.

Stand-ins are the same every time, so that two renders can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api import lookup
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run

SAMPLE_ID = UUID(int=0)
_LONG_AGO = "2000-01-01T00:00:00Z"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunSelector:
    """What the options name. `template` replaces the pool's; `variables` are job variables of the
    deployment, or of the run where a deployment is named."""

    flow_run: UUID | None = None
    deployment: str = ""
    pool: str = ""
    template: Mapping[str, Any] | None = None
    variables: Mapping[str, Any] | None = None

    @property
    def needs_server(self) -> bool:
        """Whether an option names an object of the Prefect server."""
        return bool(self.flow_run or self.deployment or self.pool)


@dataclass(frozen=True, slots=True)
class RunDocuments:
    """The documents; `server_run` is the run as the server has it, if it is one of the server's."""

    run: Object
    flow: Object
    deployment: Object | None
    pool: Object
    server_run: Run | None = None


def sample_documents(wanted: RunSelector) -> RunDocuments:
    """Without any server."""
    pool = {"id": str(SAMPLE_ID), "name": "work-pool", "type": "kubernetes"}
    return _of_pool(pool | {"base_job_template": wanted.template}, wanted)


async def fetch_documents(wanted: RunSelector, api: PrefectApi) -> RunDocuments:
    """From the server.

    Raises:
        OperatorError: it does not have what is named; with names that are like it.
    """
    if wanted.flow_run:
        return await _of_run(wanted.flow_run, wanted, api)
    if wanted.deployment:
        return await _of_deployment(wanted, api)
    return _of_pool(await _pool(wanted.pool, wanted, api), wanted)


async def _of_run(run_id: UUID, wanted: RunSelector, api: PrefectApi) -> RunDocuments:
    run = await api.read_run(run_id)
    if run is None:
        raise lookup.NotFound(f"{api.server.url} has no flow run {run_id}.")
    deployment = None
    if run.deployment_id:
        deployment = await lookup.deployment(api, str(run.deployment_id))
    name = wanted.pool or run.document.get("work_pool_name") or ""
    pool = await _pool(name, wanted, api, of=f"flow run {run.name!r}")
    flow = await lookup.flow(api, str(run.flow_id))
    return RunDocuments(run.document, flow, deployment, pool, server_run=run)


async def _of_deployment(wanted: RunSelector, api: PrefectApi) -> RunDocuments:
    deployment = await lookup.deployment(api, wanted.deployment)
    name = wanted.pool or deployment.get("work_pool_name") or ""
    pool = await _pool(name, wanted, api, of=f"deployment {deployment['name']!r}")
    flow = await lookup.flow(api, deployment["flow_id"])
    run = _run(flow, deployment) | {"job_variables": dict(wanted.variables or {})}
    return RunDocuments(run, flow, deployment, pool)


async def _pool(name: str, wanted: RunSelector, api: PrefectApi, *, of: str = "") -> Object:
    if not name:
        raise OperatorError(f"{of} has no work pool: name one by --pool")
    pool = await lookup.pool(api, name)
    return pool | {"base_job_template": wanted.template} if wanted.template else pool


def _of_pool(pool: Object, wanted: RunSelector) -> RunDocuments:
    """A run of a deployment that nobody made."""
    flow = {"id": str(SAMPLE_ID), "name": "flow", "created": _LONG_AGO, "updated": _LONG_AGO}
    deployment = flow | {
        "name": "deployment",
        "flow_id": str(SAMPLE_ID),
        "job_variables": dict(wanted.variables or {}),
    }
    return RunDocuments(_run(flow, deployment), flow, deployment, pool)


def _run(flow: Object, deployment: Object) -> Object:
    return {
        "id": str(SAMPLE_ID),
        "name": "flow-run",
        "flow_id": flow["id"],
        "deployment_id": deployment["id"],
        "parameters": {},
    }
