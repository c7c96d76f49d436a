"""Renders a claimed run's Job from the configuration that Prefect's worker resolved for it.

A worker creates Jobs only for the runs that its own process submits: any other run belongs to
another worker of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import identify, record_pending_timeout
from workpool_operator.jobs.render import RenderedJob, validated
from workpool_operator.prefect_api.models import WorkPool
from workpool_operator.runs.claims import ClaimedRun, Owner


class ConfigurationRenderer:
    """Adds the identity of the Job to resolved configurations.

    `configured(run_id)` returns the run's configuration, None if this process did not submit it.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        configured: Callable[[UUID], KubernetesJobConfiguration | None],
        pool: Callable[[], WorkPool],
    ) -> None:
        self._owner = owner
        self._configured = configured
        self._pool = pool

    async def render(
        self, claimed: ClaimedRun, *, deployment: Mapping[str, Any] | None = None
    ) -> RenderedJob | None:
        """See `JobRenderer.render`; the configuration has the deployment already."""
        run = claimed.run
        configuration = self._configured(run.id)
        if configuration is None:
            return None
        render_input = RenderInput(
            run=run.document,
            flow={},
            deployment=_deployment(configuration),
            pool=self._pool().document,
            worker_name=self._owner.worker_name,
            template_environment=self._owner.template_environment,
        )
        # A copy, because the Job can be rendered again.
        manifest = configuration.model_copy(deep=True).job_manifest
        identity = self._owner.identity(run.id, claimed.claim, namespace=configuration.namespace)
        identify(manifest, identity, run_name=configuration.job_name)
        record_pending_timeout(manifest, render_input.pending_timeout)
        return validated(render_input, manifest)


def _deployment(configuration: KubernetesJobConfiguration) -> dict[str, Any]:
    """Return the part of the deployment that error messages name."""
    found = configuration._related_objects.get("deployment")
    return {"job_variables": found.job_variables} if found else {}
