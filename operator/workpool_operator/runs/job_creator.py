"""Renders and creates the Job of a claimed run. Ends no run: a failure becomes a fact of the run's
record, and the table decides what follows.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import (
    BindingFault,
    DeploymentNotFound,
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
    RenderError,
)
from workpool_operator.jobs import ineffective_variables
from workpool_operator.jobs.rendered_job import RenderedJob
from workpool_operator.jobs.threads import run_in_thread
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.models import Job
from workpool_operator.prefect_api.run_logs import RunLogSender
from workpool_operator.runs import job_rejection
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.job_writer import CreatedJob, JobWriter
from workpool_operator.runs.renderer import JobRenderer
from workpool_operator.runs.store import NEVER, JobFault, JobFaultReason, RunStore

LONGEST_REFUSAL_SECONDS = 60.0


class JobCreator:
    """Renders and creates Jobs; `forbidden(message)` is called if the API server refuses one
    because the operator lacks a right."""

    def __init__(
        self,
        *,
        renderer: JobRenderer,
        creation: JobWriter,
        store: RunStore,
        job_cache: Cache[Job],
        run_log: RunLogSender,
        forbidden: Callable[[str], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._renderer = renderer
        self._job_writer = creation
        self._store = store
        self._job_cache = job_cache
        self._run_log = run_log
        self._forbidden = forbidden
        self._clock = clock
        self._created_at = NEVER  # the last Job of any run

    async def create_job(self, claimed: ClaimedRun) -> None:
        """Create the Job of the run's claim, or record why it cannot be created.

        Raises:
            Unavailable: the Job's inputs cannot be read now, or the API server did not answer the
                first attempt.
        """
        run_id = claimed.run.id
        deployment = self._store.of(run_id).deployment
        try:
            made = await self._renderer.render(claimed, deployment=deployment)
            if made is None:
                self._store.put(run_id, self._store.of(run_id).mark_foreign())
                return
            record = self._store.of(run_id)
            timeout = ineffective_variables.pending_timeout(made.render_input)
            deployment = made.render_input.deployment
            self._store.put(run_id, replace(record, deployment=deployment, pending_timeout=timeout))
            await self._submit(claimed, made)
        except DeploymentNotFound as error:
            self._note_fault(claimed, JobFaultReason.DEPLOYMENT_NOT_FOUND, str(error))
        except RenderError as error:
            self._note_fault(claimed, JobFaultReason.RENDERING_FAILED, str(error))

    async def _submit(self, claimed: ClaimedRun, made: RenderedJob) -> None:
        run_id = claimed.run.id
        try:
            created = await self._job_writer.create(made.manifest, claim_id=claimed.claim.id)
        except BindingFault as fault:
            self._note_wait(run_id, fault)
        except KubernetesRefused as refused:
            await self._refused(claimed, made, refused)
        except KubernetesUnavailable as error:
            self._note_outage(run_id)
            record = self._store.of(run_id)
            if not record.refusals:  # a single failure is not reported
                self._store.put(run_id, replace(record, refusals=1))
                raise
            self._note_wait(run_id, error)
        else:
            await self._created(run_id, made, created)

    async def _created(self, run_id: UUID, made: RenderedJob, created: CreatedJob) -> None:
        self._created_at = self._clock.monotonic()
        record = self._store.of(run_id)
        self._store.put(
            run_id, replace(record, refusal=None, refusals=0, deployment=None, alone_since=None)
        )
        self._job_cache.put_if_newer(created.job)
        self._run_log.write(run_id, _success(created))
        for text in await run_in_thread(
            ineffective_variables.ineffective, made.render_input, namespace=made.fixed_namespace
        ):
            self._run_log.write(run_id, text, level=logging.WARNING)

    async def _refused(
        self, claimed: ClaimedRun, made: RenderedJob, refused: KubernetesRefused
    ) -> None:
        """Record a refusal that time can resolve as a wait, any other as a fault with its fix."""
        if job_rejection.transient_reason(refused):
            self._note_wait(claimed.run.id, refused)
            return
        grant = ""
        if job_rejection.is_missing_permission(refused):
            grant = await self._job_writer.grant(refused, made.namespace)
            self._forbidden(f"{refused}. Grant it: {grant}")
        namespace = made.namespace
        text = await run_in_thread(
            job_rejection.rejected_job_message,
            refused,
            made.render_input,
            namespace=namespace,
            grant=grant,
        )
        self._note_fault(claimed, JobFaultReason.REFUSED, text)

    def _note_fault(self, claimed: ClaimedRun, reason: JobFaultReason, message: str) -> None:
        run_id, fault = claimed.run.id, JobFault(claimed.claim.id, reason, message)
        self._store.put(run_id, replace(self._store.of(run_id), job_fault=fault))

    def _note_outage(self, run_id: UUID) -> None:
        """Record since when Jobs of other runs are created but this run's is not."""
        record, now = self._store.of(run_id), self._clock.monotonic()
        is_alone = record.refusals and self._created_at > record.refused_at
        alone_since = now if record.alone_since is None and is_alone else record.alone_since
        self._store.put(run_id, replace(record, alone_since=alone_since, refused_at=now))

    def _note_wait(self, run_id: UUID, error: OperatorError) -> None:
        """Record why the Job was not accepted, and when the next attempt is due."""
        record = self._store.of(run_id)
        refusals = record.refusals + 1
        delay = min(2.0**refusals, LONGEST_REFUSAL_SECONDS) * random.uniform(0.8, 1.2)
        delay = max(delay, getattr(error, "retry_after", None) or 0.0)
        self._store.put(
            run_id,
            replace(
                record,
                refusals=refusals,
                refusal=job_rejection.transient_reason(error),
                refused_until=self._clock.monotonic() + delay,
            ),
        )


def _success(created: CreatedJob) -> str:
    job = f"{created.job.metadata.namespace}/{created.job.name}"
    secret = f"; its environment is in Secret {created.secret}" if created.secret else ""
    return f"Created Kubernetes Job {job}{secret}."
