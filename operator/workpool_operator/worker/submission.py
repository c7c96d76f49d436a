"""A claimed run's Job from the configuration that its worker resolved, where the operator renders.

Whoever holds no configuration of a run creates no Job for it: the run may belong to another
namespace's engine, or to the worker beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from workpool_operator.dispatch.claims import Claim
from workpool_operator.dispatch.ledger import Record
from workpool_operator.dispatch.submission import Submission
from workpool_operator.jobs import effects
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.draft import Draft, checked
from workpool_operator.jobs.manifest import identify
from workpool_operator.jobs.render import Subject
from workpool_operator.prefect_api.views import Run

Configured = Callable[[UUID], KubernetesJobConfiguration | None]


class ConfiguredSubmission(Submission):
    """`configured(run_id)` is the run's configuration, complete but for the Job's identity."""

    def __init__(self, *args: Any, configured: Configured, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._configured = configured

    async def create_job(self, run_id: UUID, record: Record) -> None:
        """Create the Job of the run's claim, if its configuration is held here."""
        configuration = self._configured(run_id)
        if configuration is None:
            record.disown()
            return
        record.deployment = _deployment(configuration)
        await super().create_job(run_id, record)

    @property
    def _fixed_namespace(self) -> str:
        """None: a worker makes the Job where the run's configuration says."""
        return ""

    async def _draft(self, run: Run, claim: Claim, deployment: dict[str, Any] | None) -> Draft:
        """From a copy: the Job may have to be made again."""
        subject = Subject(
            run=run.document,
            flow={},
            deployment=deployment,
            pool=self._pool().document,
            worker_name=self._place.worker_name,
        )
        held = self._configured(run.id)
        assert held is not None
        manifest = held.model_copy(deep=True).job_manifest
        identify(manifest, self._place.identity(run.id, claim), run_name=held.job_name)
        effects.annotate(manifest, subject)
        return checked(subject, manifest)


def _deployment(configuration: KubernetesJobConfiguration) -> dict[str, Any]:
    """What a fault's text reads of the deployment; the Job has all else already."""
    found = configuration._related_objects.get("deployment")
    return {"job_variables": found.job_variables} if found else {}
