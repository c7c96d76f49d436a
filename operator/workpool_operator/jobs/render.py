"""A pool's base job template and a run's values -> the manifest of the run's Job."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse

from workpool_operator.errors import RenderError
from workpool_operator.jobs import certificates, effects, environment, manifest
from workpool_operator.jobs.certificates import Source
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.manifest import Identity


@dataclass(frozen=True, slots=True)
class Subject:
    """The server's documents of one run: `deployment` is None for a run without one.

    `environment` is what the run inherits from its binding, as Kubernetes' EnvVar entries, `ca`
    whom it trusts; `template_environment` names the variables of the process's own environment
    that the template may read.
    """

    run: Mapping[str, Any]
    flow: Mapping[str, Any]
    deployment: Mapping[str, Any] | None
    pool: Mapping[str, Any]
    worker_name: str
    environment: tuple[Mapping[str, Any], ...] = field(default=())
    ca: Source | None = None
    template_environment: frozenset[str] = frozenset()

    @property
    def job_variables(self) -> dict[str, Any]:
        """The deployment's, overlaid by the run's; `env` is merged."""
        return environment.overlaid(
            _variables_of(self.deployment or {}, "the deployment"),
            _variables_of(self.run, "the flow run"),
        )


def _variables_of(document: Mapping[str, Any], giver: str) -> dict[str, Any]:
    given = document.get("job_variables") or {}
    if not isinstance(given, Mapping):
        raise RenderError("job_variables", f"expected a mapping, got {given!r:.80}")
    try:
        return environment.folded(copy.deepcopy(dict(given)))
    except environment.Misfit as misfit:
        name = f"env.{misfit.name}" if misfit.name else "env"
        raise RenderError(f"job variable {name} of {giver}", str(misfit)) from misfit


async def render(subject: Subject, identity: Identity, *, client: PrefectClient) -> dict[str, Any]:
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
        certificates.mount(configuration.job_manifest, subject.ca)
    manifest.identify(configuration.job_manifest, identity, run_name=configuration.job_name)
    effects.annotate(configuration.job_manifest, subject)
    return configuration.job_manifest
