"""Resolves the job configuration of a run as Prefect's worker does, and retries.

Prefect's worker crashes a run if the API fails while it reads the inputs of the configuration. Here
transient failures are retried.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Self

from workpool_operator import settings
from workpool_operator.errors import RenderError
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.retry import retry_unavailable

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse


class ResolvedConfiguration(KubernetesJobConfiguration):
    """A job configuration that is resolved for one flow run."""

    @classmethod
    async def from_template_and_values(
        cls,
        base_job_template: Mapping[str, Any],
        values: Mapping[str, Any],
        client: PrefectClient | None = None,
        *,
        template_environment: Collection[str] | None = None,
    ) -> Self:
        """Render the template; it may read the environment variables that the settings allow."""
        if template_environment is None:
            template_environment = settings.template_environment()
        return await super().from_template_and_values(
            base_job_template, values, client, template_environment=template_environment
        )

    @classmethod
    async def resolve_for_flow_run(cls, flow_run: FlowRun, **context: Any) -> Self:
        """Resolve the configuration, with retries. Each attempt has a copy of the run that includes
        the job variables of its deployment: Prefect merges environments in one form only."""
        resolve = super().resolve_for_flow_run

        async def attempt() -> Self:
            deployment = await _deployment(flow_run, **context)
            run = flow_run.model_copy(deep=True)
            run.job_variables = _job_variables(run, deployment)
            return await resolve(run, **context | {"deployment": deployment})

        try:
            return await retry_unavailable(attempt, about=f"run {flow_run.id}: its configuration")
        except RenderError as error:
            from workpool_operator.jobs import attribution  # takes 0.8 s, which a valid run saves

            render_input = await _render_input(flow_run, **context)
            raise RenderError("", attribution.render_error_message(error, render_input)) from error


async def _deployment(
    flow_run: FlowRun,
    *,
    client: PrefectClient,
    deployment: DeploymentResponse | None = None,
    **_: Any,
) -> DeploymentResponse | None:
    if deployment is None and flow_run.deployment_id:
        return await client.read_deployment(flow_run.deployment_id)
    return deployment


def _job_variables(run: FlowRun, deployment: DeploymentResponse | None) -> dict[str, Any]:
    return RenderInput(
        run={"job_variables": run.job_variables},
        flow={},
        deployment=_variables_of(deployment),
        pool={},
        worker_name="",
    ).job_variables


def _variables_of(deployment: DeploymentResponse | None) -> dict[str, Any] | None:
    return {"job_variables": deployment.job_variables} if deployment else None


async def _render_input(
    flow_run: FlowRun, *, work_pool: WorkPool, worker_name: str, **context: Any
) -> RenderInput:
    """Return the inputs that attribute an error to a job variable."""
    deployment = await _deployment(flow_run, **context)
    return RenderInput(
        run=flow_run.model_dump(mode="json"),
        flow={},
        deployment=_variables_of(deployment),
        pool={"base_job_template": work_pool.base_job_template},
        worker_name=worker_name,
        template_environment=settings.template_environment(),
    )
