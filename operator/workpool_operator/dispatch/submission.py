"""A claimed run becomes a Job, or the reason why not. Decides nothing.

A Job of the claim's name that exists already is the run's if its pod template says so: a replay
creates nothing twice (races.md 14).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from workpool_operator.dispatch.ledger import Claim, Record
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.proposals import Proposals
from workpool_operator.errors import KubernetesRefused, RenderError
from workpool_operator.jobs.render import Subject, render
from workpool_operator.jobs.verdict import Wait
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.views import Job
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.runlog import RunLog
from workpool_operator.prefect_api.views import Run, WorkPool

LONGEST_REFUSAL_SECONDS = 60.0


class Submission:
    """Renders and creates Jobs; `forbidden(message)` is called when the API server refuses them for
    a reason that is the binding's."""

    def __init__(
        self,
        place: Place,
        *,
        api: PrefectApi,
        kube: KubernetesClient,
        proposals: Proposals,
        job_cache: Cache[Job],
        runlog: RunLog,
        pool: Callable[[], WorkPool],
        forbidden: Callable[[str], None],
    ) -> None:
        self._place = place
        self._api = api
        self._kube = kube
        self._proposals = proposals
        self._job_cache = job_cache
        self._runlog = runlog
        self._pool = pool
        self._forbidden = forbidden
        self._flows: dict[UUID, dict[str, Any]] = {}

    async def create_job(self, run_id: UUID, record: Record) -> None:
        """Create the Job of the run's claim, or end the run where it can have none."""
        assert record.run is not None and record.claim is not None
        run, claim = record.run, record.claim
        if run.deployment_id and record.deployment is None:
            found = await self._api.deployments([run.deployment_id])
            record.deployment = found.get(run.deployment_id)
        if run.deployment_id and record.deployment is None:
            text = f"Deployment {run.deployment_id} no longer exists: the run was cancelled."
            await self._proposals.cancel(run_id, record, text)
            return
        try:
            manifest = await self._render(run, claim, record.deployment)
        except RenderError as error:
            await self._proposals.crash(run_id, record, f"The run's Job cannot be made. {error}")
            return
        await self._submit(run_id, record, manifest, claim)

    async def _render(
        self, run: Run, claim: Claim, deployment: dict[str, Any] | None
    ) -> dict[str, Any]:
        subject = Subject(
            run=run.document,
            flow=await self._flow(run.flow_id),
            deployment=deployment,
            pool=self._pool().document,
            worker_name=self._place.worker_name,
            environment=self._place.environment,
        )
        identity = self._place.identity(run.id, claim)
        return await render(subject, identity, client=self._api.client)

    async def _flow(self, flow_id: UUID) -> dict[str, Any]:
        """A flow's name and labels never change, so that it is read once."""
        if flow_id not in self._flows:
            self._flows |= await self._api.flows([flow_id])
        if flow_id not in self._flows:
            raise RenderError("", f"Flow {flow_id} no longer exists.")
        return self._flows[flow_id]

    async def _submit(
        self, run_id: UUID, record: Record, manifest: dict[str, Any], claim: Claim
    ) -> None:
        name = manifest["metadata"]["name"]
        try:
            job = await self._create_or_meet(manifest, claim)
        except KubernetesRefused as refused:
            await self._refused(run_id, record, refused)
            return
        record.refusal, record.refusals, record.deployment = None, 0, None
        self._job_cache.offer(job)
        self._runlog.write(run_id, f"Created Kubernetes Job {self._place.namespace}/{name}.")

    async def _create_or_meet(self, manifest: dict[str, Any], claim: Claim) -> Job:
        """The Job that the manifest asks for; of a name that is taken, only if it is this one."""
        try:
            job: Job = await self._kube.create(JOBS, self._place.namespace, manifest)
            return job
        except KubernetesRefused as refused:
            if refused.status != 409:
                raise
        name = manifest["metadata"]["name"]
        found: Job = await self._kube.get(JOBS, self._place.namespace, name)
        if found.deleting or found.claim_id != str(claim.id):
            raise KubernetesRefused(
                f"Job {name} exists and is being deleted or is not this run's",
                status=409,
                reason="AlreadyExists",
            )
        return found

    async def _refused(self, run_id: UUID, record: Record, refused: KubernetesRefused) -> None:
        """What time can mend is waited for; the rest crashes the run with the fix."""
        if wait := _passing(refused):
            record.refusals += 1
            delay = min(2.0**record.refusals, LONGEST_REFUSAL_SECONDS) * random.uniform(0.8, 1.2)
            record.refusal = wait
            record.refused_until = time.monotonic() + delay
            return
        if refused.status in (401, 403):
            self._forbidden(str(refused))
        advice = _advice(refused, self._place.namespace)
        text = str(refused).rstrip(". ")
        message = f"The API server refused the run's Job: {text}. {advice}"
        await self._proposals.crash(run_id, record, message)


def _passing(refused: KubernetesRefused) -> Wait | None:
    """A refusal that goes away without anybody changing the run."""
    text = str(refused)
    if refused.status == 403 and "exceeded quota" in text:
        advice = "It starts as soon as the namespace's quota allows."
        return Wait("QuotaExceeded", f"{text}. {advice}")
    if refused.status == 409 or "admission webhook" in text:
        return Wait("JobRefused", f"{text}. The Job is tried again.")
    return None


def _advice(refused: KubernetesRefused, namespace: str) -> str:
    if refused.status in (401, 403):
        return f"Grant the operator's ServiceAccount the right to create Jobs in {namespace!r}."
    if refused.status == 404:
        return f"Create the namespace {namespace!r}, or correct spec.jobs.namespace of the binding."
    return "Correct the deployment's job variables or the pool's base job template."
