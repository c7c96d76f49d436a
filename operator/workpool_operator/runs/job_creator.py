"""Renders and creates the Job of a claimed run, with its environment in a Secret if the settings
ask for it. Ends no run: a failure becomes a fact of the run's record, and the table decides what
follows.

If a Job of the claim's name exists and its pod template names the claim, it is the run's: repeating
a creation creates nothing twice (docs/races.md, 14). The Secret is created before its Job, so that
no pod waits for it, and the Job then owns it. If the API server refuses the Job, its Secret is
deleted. If the operator is killed between the two, the next attempt or the SecretCollector
completes them.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workpool_operator.backoff import exponential_delay
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import (
    BindingFault,
    DeploymentNotFound,
    KubernetesBadRequest,
    KubernetesConflict,
    KubernetesForbidden,
    KubernetesInvalid,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
    RenderError,
    SecretRefused,
)
from workpool_operator.jobs import attribution, diagnosis, ineffective_variables
from workpool_operator.jobs.diagnosis import OUTAGE, WaitReason
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.render import RenderedJob
from workpool_operator.jobs.secrets import JobWithSecret, extract_environment
from workpool_operator.jobs.threads import run_in_thread
from workpool_operator.kube import permissions, secrets
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.cluster import Cache
from workpool_operator.kube.models import Job
from workpool_operator.logs import about
from workpool_operator.prefect_api.run_logs import RunLogSender
from workpool_operator.runs.back_pressure import BackPressure
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.renderer import JobRenderer
from workpool_operator.runs.settings import QUOTA_PROBE_SECONDS
from workpool_operator.runs.store import NEVER, JobFault, JobFaultReason, RunStore

log = logging.getLogger(__name__)

Object = Mapping[str, Any]

FIRST_REFUSAL_SECONDS, LONGEST_REFUSAL_SECONDS = 2.0, 60.0

# Texts of the API server, for cases that share a status and a reason. Admission names the object.
# The authorizer does not: it decides before the object exists.
_BY_ADMISSION = re.compile(r'"[^"]+" is forbidden: ')
_BY_A_POLICY = ("admission webhook", "ValidatingAdmissionPolicy")
_ENDING = "because it is being terminated"


class JobCreator:
    """Renders and creates Jobs; `forbidden(message)` is called if the API server refuses one
    because the operator lacks a right, `asked_to_wait(seconds)` if it names a time to wait."""

    def __init__(
        self,
        *,
        renderer: JobRenderer,
        job_writer: JobWriter,
        store: RunStore,
        job_cache: Cache[Job],
        run_log: RunLogSender,
        back_pressure: BackPressure,
        asked_to_wait: Callable[[float], None],
        forbidden: Callable[[str], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._renderer = renderer
        self._job_writer = job_writer
        self._store = store
        self._job_cache = job_cache
        self._run_log = run_log
        self._back_pressure = back_pressure
        self._asked_to_wait = asked_to_wait
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
            self._store.update(
                run_id,
                deployment=made.render_input.deployment,
                pending_timeout=made.render_input.pending_timeout,
            )
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
            if error.retry_after:
                self._asked_to_wait(error.retry_after)
            self._note_outage(run_id)
            if not (error.retry_after or self._store.of(run_id).refusals):  # not worth a report yet
                self._store.update(run_id, refusals=1)
                raise
            self._note_wait(run_id, error)
        else:
            await self._created(run_id, made, created)

    async def _created(self, run_id: UUID, made: RenderedJob, created: CreatedJob) -> None:
        self._created_at = self._clock.monotonic()
        self._store.update(
            run_id, refusal=None, refusals=0, deployment=None, only_this_refused_since=None
        )
        self._job_cache.put_if_newer(created.job)
        self._run_log.write(run_id, _success(created))
        with about(job=created.job.metadata.key):
            log.info("run %s: created Job %s", run_id, created.job.metadata.key)
        for text in await run_in_thread(
            ineffective_variables.ineffective, made.render_input, namespace=made.fixed_namespace
        ):
            self._run_log.write(run_id, text, level=logging.WARNING)

    async def _refused(
        self, claimed: ClaimedRun, made: RenderedJob, refused: KubernetesRefused
    ) -> None:
        """Record a refusal that time can resolve as a wait, any other as a fault with its fix."""
        if transient_reason(refused):
            self._note_wait(claimed.run.id, refused)
            return
        grant = ""
        if is_missing_permission(refused):
            grant = await self._job_writer.grant(refused, made.namespace)
            self._forbidden(f"{refused}. Grant it: {grant}")
        namespace = made.namespace
        text = await run_in_thread(
            rejected_job_message,
            refused,
            made.render_input,
            namespace=namespace,
            grant=grant,
        )
        self._note_fault(claimed, JobFaultReason.REFUSED, text)

    def _note_fault(self, claimed: ClaimedRun, reason: JobFaultReason, message: str) -> None:
        run_id, fault = claimed.run.id, JobFault(claimed.claim.id, reason, message)
        self._store.update(run_id, job_fault=fault)

    def _note_outage(self, run_id: UUID) -> None:
        """Record since when Jobs of other runs are created but this run's is not."""
        record, now = self._store.of(run_id), self._clock.monotonic()
        since = record.only_this_refused_since
        if since is None and record.refusals and self._created_at > record.refused_at:
            since = now
        self._store.update(run_id, only_this_refused_since=since, refused_at=now)

    def _note_wait(self, run_id: UUID, error: OperatorError) -> None:
        """Record why the Job was not accepted, and when the next attempt is due. Of the runs that
        wait for a quota, the first tries again soon, and the next one once that got its Job."""
        refusals, refusal = self._store.of(run_id).refusals, transient_reason(error)
        delay = exponential_delay(
            refusals, first=FIRST_REFUSAL_SECONDS, longest=LONGEST_REFUSAL_SECONDS
        )
        delay = max(delay * random.uniform(0.8, 1.2), error.retry_after or 0.0)
        if refusal and refusal.quota and self._back_pressure.probe in (None, run_id):
            delay = QUOTA_PROBE_SECONDS
        self._store.update(
            run_id,
            refusals=refusals + 1,
            refusal=refusal,
            refused_until=self._clock.monotonic() + delay,
        )


def _success(created: CreatedJob) -> str:
    job = created.job.metadata.key
    secret = f"; its environment is in Secret {created.secret}" if created.secret else ""
    return f"Created Kubernetes Job {job}{secret}."


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """A Job; `secret` is the name of the Secret that holds its environment, "" without one."""

    job: Job
    secret: str = ""


async def always_consents(_: str) -> None:
    """Consent, for the Jobs of workers: a worker's own RBAC rights decide where it creates Jobs."""


class JobWriter:
    """Creates Jobs.

    `environment_secret()` returns whether plain environments go into Secrets. `consent(namespace)`
    raises if the namespace does not admit the binding's Jobs. It is checked here because the
    Prefect server decides which runs are claimed.
    """

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        environment_secret: Callable[[], bool],
        consent: Callable[[str], Awaitable[None]],
    ) -> None:
        self._kube = kube
        self._consent = consent
        self._environment_secret = environment_secret

    async def create(self, manifest: Object, *, claim_id: UUID) -> CreatedJob:
        """Return the Job of the manifest, created now or by an earlier attempt.

        Raises:
            BindingFault: the namespace does not admit it.
            KubernetesRefused: it does not exist; its name may be in use.
            RenderError: its environment is larger than a Secret can be.
            KubernetesUnavailable: it may exist or not; try again.
        """
        await self._consent(_namespace(manifest))
        wanted = (
            extract_environment(manifest)
            if self._environment_secret()
            else JobWithSecret(dict(manifest), None)
        )
        if wanted.secret is None:
            return CreatedJob(await self._create_or_get(wanted.job, claim_id))
        return await self._create_with(wanted.secret, wanted.job, claim_id)

    async def grant(self, refused: KubernetesRefused, namespace: str) -> str:
        """Return how to give the operator the right that it lacks in the namespace."""
        lacks = isinstance(refused, SecretRefused)
        role = permissions.WRITE_SECRETS_ROLE if lacks else permissions.JOBS_ROLE
        return await permissions.how_to_grant(self._kube, namespace, role)

    async def _create_with(self, secret: Object, manifest: Object, claim_id: UUID) -> CreatedJob:
        name, namespace = secret["metadata"]["name"], _namespace(manifest)
        job = None
        if not await self._create_secret(namespace, secret):
            job = await self._earlier(secret, manifest, claim_id)
        if job is None:
            job = await self._create_or_delete_secret(name, manifest, claim_id)
        await self._adopt_secret(namespace, name, job)
        return CreatedJob(job, secret=name)

    async def _create_secret(self, namespace: str, secret: Object) -> bool:
        try:
            return await secrets.create(self._kube, namespace, secret)
        except KubernetesRefused as refused:
            raise SecretRefused(refused) from refused

    async def _earlier(self, secret: Object, manifest: Object, claim_id: UUID) -> Job | None:
        """Return the Job of an earlier attempt. Without one, create its Secret again: its values
        may have changed, and a collector that deletes the old one must not delete the new one."""
        with suppress(KubernetesNotFound):
            return await self._get_own_job(manifest, claim_id)
        namespace = _namespace(manifest)
        await secrets.delete(self._kube, namespace, secret["metadata"]["name"])
        await self._create_secret(namespace, secret)
        return None

    async def _create_or_delete_secret(self, secret: str, manifest: Object, claim_id: UUID) -> Job:
        try:
            return await self._create_or_get(manifest, claim_id)
        except KubernetesRefused:
            await secrets.delete(self._kube, _namespace(manifest), secret)
            raise

    async def _create_or_get(self, manifest: Object, claim_id: UUID) -> Job:
        try:
            return await self._kube.create(JOBS, _namespace(manifest), manifest)
        except KubernetesConflict:
            return await self._get_own_job(manifest, claim_id)

    async def _get_own_job(self, manifest: Object, claim_id: UUID) -> Job:
        """Return the Job of the manifest's name if it is this claim's."""
        name = manifest["metadata"]["name"]
        found = await self._kube.get(JOBS, _namespace(manifest), name)
        if found.deleting or found.claim_id != str(claim_id):
            text = f"Job {name} exists and is being deleted or is not this run's"
            raise KubernetesConflict(text)
        return found

    async def _adopt_secret(self, namespace: str, secret: str, job: Job) -> None:
        try:
            await secrets.adopt(self._kube, namespace, secret, job=job)
        except OperatorError as error:
            log.debug("Secret %s gets its owner from the next collection: %s", secret, error)


def _namespace(manifest: Object) -> str:
    return str(manifest["metadata"]["namespace"])


# Refusals: the run waits for what time can resolve, under a sub-state that names the reason.
# Anything else ends the run with the fix.


def transient_reason(error: OperatorError) -> WaitReason | None:
    """Return what the run waits for; None if only a change of the cluster or the run would help."""
    text = str(error).rstrip(". ")
    if isinstance(error, BindingFault):
        return WaitReason("JobRefused", str(error))
    if isinstance(error, KubernetesUnavailable):
        problem = f"The Kubernetes API does not accept the run's Job: {text}"
        when = f" in {error.retry_after:.0f} s, as it asked" if error.retry_after else ""
        return WaitReason(OUTAGE, f"{problem}. The operator tries again{when}.")
    if not isinstance(error, KubernetesRefused):
        return None
    answer = _answer(error)
    if isinstance(answer, KubernetesForbidden) and (quota := diagnosis.exceeded_quota(text)):
        free = diagnosis.how_to_free(quota)
        advice = f"The Job starts as soon as the namespace's quota allows: {free}."
        return WaitReason("QuotaExceeded", f"{text}. {advice}", quota=quota)
    if isinstance(answer, KubernetesConflict) or any(words in text for words in _BY_A_POLICY):
        return WaitReason("JobRefused", f"{text}. The operator tries again.")
    if _ENDING in text:
        advice = "Nothing can start in the namespace: create it again once it is deleted."
        return WaitReason("JobRefused", f"{text}. {advice}")
    return None


def is_missing_permission(error: KubernetesRefused) -> bool:
    """Return whether the operator lacks a right. A 403 of an admission plugin does not count."""
    is_forbidden = isinstance(_answer(error), KubernetesForbidden)
    return is_forbidden and not _BY_ADMISSION.search(str(error))


def rejected_job_message(
    refused: KubernetesRefused, render_input: RenderInput, *, namespace: str, grant: str = ""
) -> str:
    """Return why the run ends: the refused fields, where their values come from, and the fix.
    `grant` is the fix for a missing right."""
    text = attribution.rejected_fields_message(refused.causes, render_input) or str(refused)
    is_misfit = isinstance(_answer(refused), KubernetesBadRequest | KubernetesInvalid)
    misfits = attribution.invalid_variables_message(render_input) if is_misfit else ""
    facts = ". ".join(part.rstrip(". ") for part in (text, misfits) if part)
    return f"The API server refused the run's Job: {facts}. {_advice(refused, namespace, grant)}"


def _advice(refused: KubernetesRefused, namespace: str, grant: str) -> str:
    if grant:
        what = "secrets" if isinstance(refused, SecretRefused) else "jobs"
        return f"Grant the operator the right to create {what} in namespace {namespace!r}: {grant}"
    answer = _answer(refused)
    if isinstance(answer, KubernetesForbidden):
        return (
            "The operator may create Jobs, but a policy of the cluster refuses this one: "
            "change what it names, or the policy."
        )
    if isinstance(answer, KubernetesNotFound):
        return (
            f"Create the namespace: kubectl create namespace {namespace}, or correct its name: "
            "spec.jobs.namespace of a binding, job variable namespace under a worker."
        )
    return "Correct the deployment's job variables or the pool's base job template."


def _answer(refused: KubernetesRefused) -> KubernetesRefused:
    """Return the API server's own refusal, of the Job or of the Secret of its environment."""
    return refused.refusal if isinstance(refused, SecretRefused) else refused
