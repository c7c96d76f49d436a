"""Renders the manifest of a run's Job from its pool's base job template and its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse

from workpool_operator.jobs import certificates, ineffective_variables, manifest
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


async def render_manifest(
    render_input: RenderInput, identity: Identity, *, client: PrefectClient
) -> dict[str, Any]:
    """Render the manifest of the run's Job, named after its claim.

    Raises:
        RenderError: the template or the run's values are invalid.
        PrefectUnavailable: a block or variable cannot be read at the moment.
    """
    configuration = await KubernetesJobConfiguration.from_template_and_values(
        base_job_template=render_input.pool["base_job_template"],
        values=render_input.job_variables,
        client=client,
        template_environment=render_input.template_environment,
    )
    configuration.prepare_for_flow_run(
        FlowRun.model_validate(render_input.run),
        DeploymentResponse.model_validate(render_input.deployment)
        if render_input.deployment
        else None,
        Flow.model_validate(render_input.flow),
        WorkPool.model_validate(render_input.pool),
        render_input.worker_name,
    )
    configuration.inherit(render_input.environment)
    if render_input.ca:
        certificates.mount_ca(configuration.job_manifest, render_input.ca)
    manifest.identify(configuration.job_manifest, identity, run_name=configuration.job_name)
    ineffective_variables.annotate_pending_timeout(configuration.job_manifest, render_input)
    return configuration.job_manifest
