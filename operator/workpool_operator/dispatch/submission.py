"""Has the Job of a claimed run rendered and created, or ends the run that can have none."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from uuid import UUID

from workpool_operator.dispatch import refusal
from workpool_operator.dispatch.claims import Claim, ClaimedRun
from workpool_operator.dispatch.creation import Created, Creation
from workpool_operator.dispatch.ledger import NEVER, Record
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.proposals import Proposals
from workpool_operator.dispatch.renderer import JobRenderer
from workpool_operator.errors import (
    BindingFault,
    DeploymentNotFound,
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
    RenderError,
)
from workpool_operator.jobs import effects
from workpool_operator.jobs.draft import Draft
from workpool_operator.jobs.threads import beside
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.views import Job
from workpool_operator.prefect_api.runlog import RunLog

LONGEST_REFUSAL_SECONDS = 60.0


class Submission:
    """Has Jobs rendered and created; `forbidden(message)` is called when the API server refuses
    them for a reason that is the binding's."""

    def __init__(
        self,
        place: Place,
        *,
        renderer: JobRenderer,
        creation: Creation,
        proposals: Proposals,
        job_cache: Cache[Job],
        runlog: RunLog,
        forbidden: Callable[[str], None],
    ) -> None:
        self._place = place
        self._renderer = renderer
        self._creation = creation
        self._proposals = proposals
        self._job_cache = job_cache
        self._runlog = runlog
        self._forbidden = forbidden
        self._created_at = NEVER  # the last Job of any run

    async def create_job(self, run_id: UUID, record: Record) -> None:
        """Create the Job of the run's claim, or end the run if it can have none."""
        assert record.run is not None and record.claim is not None
        claimed = ClaimedRun(record.run, record.claim)
        try:
            made = await self._renderer.render(claimed, deployment=record.deployment)
            if made is None:
                record.disown()
                return
            record.deployment = made.subject.deployment
            record.pending_timeout = effects.pending_timeout(made.subject)
            await self._submit(run_id, record, made, claimed.claim)
        except DeploymentNotFound as error:
            await self._proposals.cancel(run_id, record, f"{error}: the run was cancelled.")
        except RenderError as error:
            await self._proposals.crash(run_id, record, f"The run's Job cannot be made. {error}")

    async def _submit(self, run_id: UUID, record: Record, made: Draft, claim: Claim) -> None:
        try:
            created = await self._creation.create(made.manifest, claim_id=claim.id)
        except BindingFault as fault:
            _wait(record, fault)
            return
        except KubernetesRefused as refused:
            await self._refused(run_id, record, made, refused)
            return
        except KubernetesUnavailable as error:
            self._note_outage(record)
            if not record.refusals:  # once is no news
                record.refusals = 1
                raise
            _wait(record, error)
            return
        self._created_at = time.monotonic()
        record.refusal, record.refusals, record.deployment = None, 0, None
        record.alone_since = None
        self._job_cache.offer(created.job)
        self._runlog.write(run_id, self._success(created))
        for text in await beside(effects.in_vain, made.subject, namespace=made.fixed_namespace):
            self._runlog.write(run_id, text, level=logging.WARNING)

    def _note_outage(self, record: Record) -> None:
        """Since when Jobs of other runs are created, while this one's is not."""
        now = time.monotonic()
        if record.alone_since is None and record.refusals and self._created_at > record.refused_at:
            record.alone_since = now
        record.refused_at = now

    def _success(self, created: Created) -> str:
        job = f"{self._place.namespace}/{created.job.name}"
        secret = f"; its environment is in Secret {created.secret}" if created.secret else ""
        return f"Created Kubernetes Job {job}{secret}."

    async def _refused(
        self, run_id: UUID, record: Record, made: Draft, refused: KubernetesRefused
    ) -> None:
        """What time can mend is waited for; the rest crashes the run with the fix."""
        if refusal.passing(refused):
            _wait(record, refused)
            return
        grant = ""
        if refusal.lacks_right(refused):
            grant = await self._creation.grant(refused)
            self._forbidden(f"{refused}. Grant it: {grant}")
        namespace = self._place.namespace
        text = await beside(
            refusal.crash_text, refused, made.subject, namespace=namespace, grant=grant
        )
        await self._proposals.crash(run_id, record, text)


def _wait(record: Record, error: OperatorError) -> None:
    record.refusals += 1
    record.refusal = refusal.passing(error)
    delay = min(2.0**record.refusals, LONGEST_REFUSAL_SECONDS) * random.uniform(0.8, 1.2)
    asked = getattr(error, "retry_after", None) or 0.0
    record.refused_until = time.monotonic() + max(delay, asked)
