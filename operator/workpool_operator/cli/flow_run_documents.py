"""Finds what a Job is rendered from: the server's documents of a run, or placeholders, or files.

Placeholders are the same every time, so that two renders can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workpool_operator import settings
from workpool_operator.errors import OperatorError
from workpool_operator.jobs import documents
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.prefect_api import lookup
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run

SAMPLE_ID = UUID(int=0)
_LONG_AGO = "2000-01-01T00:00:00Z"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunSelector:
    """The run to render. `template` replaces the pool's.

    `variables` are job variables of the run; without `deployment`, of a placeholder deployment.
    """

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
    """The documents; `server_run` is the run if it exists on the server."""

    run: Object
    flow: Object
    deployment: Object | None
    pool: Object
    server_run: Run | None = None


def read_mapping(file: str) -> Mapping[str, Any]:
    """Return the one mapping in a file of a template or of job variables.

    Raises:
        UnreadableFile: the file cannot be read, or it contains anything else.
    """
    found = documents.read_documents(file)
    if len(found) != 1 or not isinstance(found[0].value, Mapping):
        raise documents.UnreadableFile(file, "must contain one mapping, and nothing else")
    value: Mapping[str, Any] = found[0].value
    return value


def read_template(file: str) -> Mapping[str, Any]:
    """Return a base job template, or that of a whole work pool as Prefect prints it.

    Raises:
        UnreadableFile: the file cannot be read, or it contains no template.
    """
    found = read_mapping(file)
    template: Any = found.get("base_job_template", found)
    if not isinstance(template, Mapping) or "job_configuration" not in template:
        problem = "is not a base job template: job_configuration is missing"
        raise documents.UnreadableFile(file, problem)
    return template


def sample_documents(selector: RunSelector) -> RunDocuments:
    """Return documents without a server: placeholders, and what the selector has."""
    pool = {"id": str(SAMPLE_ID), "name": "work-pool", "type": "kubernetes"}
    return _of_pool(pool | {"base_job_template": selector.template}, selector)


def sample_input(selector: RunSelector) -> RenderInput:
    """Return what a Job without a binding is rendered from, without a server."""
    found = sample_documents(selector)
    return RenderInput(
        found.run,
        found.flow,
        found.deployment,
        found.pool,
        worker_name="",
        template_environment=settings.template_environment(),
    )


async def fetch_documents(selector: RunSelector, api: PrefectApi) -> RunDocuments:
    """Return the documents of the server.

    Raises:
        OperatorError: an object does not exist; the message suggests similar names.
    """
    if selector.flow_run:
        return await _of_run(selector.flow_run, selector, api)
    if selector.deployment:
        return await _of_deployment(selector, api)
    return _of_pool(await _pool(selector.pool, selector, api), selector)


async def _of_run(run_id: UUID, selector: RunSelector, api: PrefectApi) -> RunDocuments:
    run = await api.read_run(run_id)
    if run is None:
        raise lookup.NotFound(f"{api.server.url} has no flow run {run_id}.")
    deployment = None
    if run.deployment_id:
        deployment = await lookup.deployment(api, str(run.deployment_id))
    name = selector.pool or run.document.get("work_pool_name") or ""
    pool = await _pool(name, selector, api, of=f"flow run {run.name!r}")
    flow = await lookup.flow(api, str(run.flow_id))
    return RunDocuments(run.document, flow, deployment, pool, server_run=run)


async def _of_deployment(selector: RunSelector, api: PrefectApi) -> RunDocuments:
    deployment = await lookup.deployment(api, selector.deployment)
    name = selector.pool or deployment.get("work_pool_name") or ""
    pool = await _pool(name, selector, api, of=f"deployment {deployment['name']!r}")
    flow = await lookup.flow(api, deployment["flow_id"])
    run = _run(flow, deployment) | {"job_variables": dict(selector.variables or {})}
    return RunDocuments(run, flow, deployment, pool)


async def _pool(name: str, selector: RunSelector, api: PrefectApi, *, of: str = "") -> Object:
    if not name:
        raise OperatorError(f"{of} has no work pool: add --pool")
    pool = await lookup.pool(api, name)
    return pool | {"base_job_template": selector.template} if selector.template else pool


def _of_pool(pool: Object, selector: RunSelector) -> RunDocuments:
    """Return a run of a placeholder deployment in this pool."""
    flow = {"id": str(SAMPLE_ID), "name": "flow", "created": _LONG_AGO, "updated": _LONG_AGO}
    deployment = flow | {
        "name": "deployment",
        "flow_id": str(SAMPLE_ID),
        "job_variables": dict(selector.variables or {}),
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
