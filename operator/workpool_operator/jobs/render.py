"""A pool's base job template and a run's values -> the manifest of the run's Job."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse

from workpool_operator.jobs import certificates, ineffective_variables, manifest
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity


async def render_manifest(
    subject: RenderInput, identity: Identity, *, client: PrefectClient
) -> dict[str, Any]:
    """The manifest of the run's Job, named after its claim.

    Raises:
        RenderError: the run's own values or the template give no Job.
        PrefectUnavailable: a block or variable cannot be read now.
    """
    configuration = await KubernetesJobConfiguration.from_template_and_values(
        base_job_template=subject.pool["base_job_template"],
        values=subject.job_variables,
        client=client,
        template_environment=subject.template_environment,
    )
    configuration.prepare_for_flow_run(
        FlowRun.model_validate(subject.run),
        DeploymentResponse.model_validate(subject.deployment) if subject.deployment else None,
        Flow.model_validate(subject.flow),
        WorkPool.model_validate(subject.pool),
        subject.worker_name,
    )
    configuration.inherit(subject.environment)
    if subject.ca:
        certificates.mount_ca(configuration.job_manifest, subject.ca)
    manifest.identify(configuration.job_manifest, identity, run_name=configuration.job_name)
    ineffective_variables.annotate_pending_timeout(configuration.job_manifest, subject)
    return configuration.job_manifest
