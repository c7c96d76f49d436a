"""One coroutine per action: each makes one external write, may be repeated, and ends by telling the
ledger what it learnt. Decides nothing.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workpool_operator.binding.model import Jobs
from workpool_operator.dispatch import decide
from workpool_operator.dispatch.history import (
    find_claim,
    is_stray_substate,
    predecessor_of,
)
from workpool_operator.dispatch.ledger import Claim, Ledger, Record
from workpool_operator.errors import KubernetesRefused, PrefectRefused, RenderError
from workpool_operator.jobs import names, template, verdict
from workpool_operator.jobs.verdict import End, Wait
from workpool_operator.kube import views
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.client import EVENTS, JOBS, PODS, KubernetesClient
from workpool_operator.kube.views import Job, Pod
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.runlog import RunLog
from workpool_operator.prefect_api.views import Run, State, WorkPool

log = logging.getLogger(__name__)

LEASE_SECONDS = 300
LOG_LINES = 20
LONGEST_REFUSAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Whose runs these are and where their Jobs go; fixed for as long as a binding is served."""

    cluster_id: str
    binding: str  # namespace/name
    binding_id: str
    worker_name: str
    namespace: str
    server_url: str
    pool_id: UUID
    environment: tuple[dict[str, Any], ...]

    def transition_id(self, run_id: UUID) -> UUID:
        return names.transition_id(
            cluster_id=self.cluster_id, binding=self.binding, pool_id=self.pool_id, run_id=run_id
        )

    def identity(self, run_id: UUID, claim: Claim) -> template.Identity:
        return template.Identity(
            run_id=run_id,
            claim_id=claim.id,
            pool_id=self.pool_id,
            binding=self.binding,
            binding_id=self.binding_id,
            server=self.server_url,
            namespace=self.namespace,
        )


class Actions:
    """The hands of the reconciler.

    `pool` and `jobs` are live views of the pool and of `spec.jobs`; `forbidden(message)` is called
    when the API server refuses Jobs for a reason that is the binding's.
    """

    def __init__(
        self,
        place: Place,
        *,
        api: PrefectApi,
        kube: KubernetesClient,
        ledger: Ledger,
        job_cache: Cache[Job],
        runlog: RunLog,
        pool: Callable[[], WorkPool],
        jobs: Callable[[], Jobs],
        forbidden: Callable[[str], None],
    ) -> None:
        self._place = place
        self._api = api
        self._kube = kube
        self._ledger = ledger
        self._job_cache = job_cache
        self._runlog = runlog
        self._pool = pool
        self._jobs = jobs
        self._forbidden = forbidden
        self._flows: dict[UUID, dict[str, Any]] = {}

    async def act(self, run_id: UUID, action: decide.Action) -> None:
        """Carry out one action.

        Raises:
            Unavailable: nobody knows whether it had its effect; decide again later.
            Refused: it had none, for a reason that the table does not foresee.
        """
        record = self._ledger.of(run_id)
        match action:
            case decide.Read():
                await self.read(run_id, record)
            case decide.ReadHistory():
                await self._read_history(run_id, record)
            case decide.Withdraw():
                record.offered_at = None
            case decide.Claim():
                await self._claim(run_id, record)
            case decide.UndoClaim():
                await self._undo_claim(run_id, record)
            case decide.Restore(state=state):
                await self._restore(run_id, record, state)
            case decide.CreateJob():
                await self._create_job(run_id, record)
            case decide.RecordJob(name=name):
                await self._record_job(run_id, record, name)
            case decide.Explain(wait=wait):
                await self._explain(run_id, record, wait)
            case decide.Diagnose(kind=kind, name=name):
                await self._diagnose(record, kind, name)
            case decide.RenewLease():
                await self._renew_lease(record)
            case decide.Crash(end=end, with_logs=with_logs):
                await self._crash(run_id, record, end, with_logs=with_logs)
            case decide.Cancel(message=message):
                await self._cancel(run_id, record, message)
            case decide.ConfirmGone(name=name):
                await self._confirm_gone(record, name)
            case decide.DeleteJob(job=job, final=final):
                await self._delete_job(run_id, job, final)
            case decide.StartTtl(job=job):
                await self._start_ttl(job)
            case decide.Reschedule():
                await self._reschedule(run_id, record)
            case decide.Forget():
                self._ledger.drop(run_id)

    # What Prefect says

    async def read(self, run_id: UUID, record: Record) -> None:
        """Hear the run's state; a claim that it does not prove any more is dropped."""
        asked_at = time.monotonic()
        self.heard(record, await self._api.read_run(run_id), asked_at)

    def heard(self, record: Record, run: Run | None, asked_at: float) -> None:
        """Take a full answer about the run into the ledger, unless it knows better by now.

        A PENDING state is ours by its transition id: the claim's own, or that of a sub-state of it.
        Without a scheduled time its predecessor was not SCHEDULED: a phantom (races.md 1).
        """
        claim = record.claim
        if not record.heard(run, asked_at):
            return
        if run is None or run.state is None or run.state_type != "PENDING":
            return
        state, details = run.state, run.state.state_details
        if details.transition_id == self._place.transition_id(run.id):
            record.claim = Claim.of(state)
        elif claim and details.transition_id == claim.substate_id(state.name):
            record.claim = claim
        else:
            record.claim = None
        record.phantom = record.claim is not None and details.scheduled_time is None

    async def _read_history(self, run_id: UUID, record: Record) -> None:
        if record.run is None or record.run.state is None:
            await self.read(run_id, record)
            return
        history = await self._api.history(run_id)
        mine = self._place.transition_id(run_id)
        record.claim = find_claim(history, mine)
        if record.claim is None and is_stray_substate(record.run.state, history, mine):
            record.phantom = True
        elif record.claim is None:
            record.disown()

    # The claim

    async def _claim(self, run_id: UUID, record: Record) -> None:
        """Mine if the answer's state is PENDING with my transition id, whatever its status."""
        mine = self._place.transition_id(run_id)
        proposal = {
            "type": "PENDING",
            "name": "Pending",
            "state_details": {"transition_id": str(mine)},
        }
        try:
            answer = await self._api.set_state(run_id, proposal)
        except PrefectRefused as refused:
            if refused.status != 404:
                raise
            record.offered_at = None
            record.heard(None, time.monotonic())
            return
        self._adopt(record, answer.state)
        if record.claim is not None:
            record.lease_renewed_at = time.monotonic()
            return
        record.offered_at = None
        record.not_before = answer.state.state_details.scheduled_time
        log.debug("run %s was not claimed: %s: %s", run_id, answer.status, answer.reason)

    async def _undo_claim(self, run_id: UUID, record: Record) -> None:
        """Put back the state that a late claim wrote over, with its data (races.md 1)."""
        assert record.run is not None and record.run.state is not None
        before = predecessor_of(record.run.state, await self._api.history(run_id))
        if before is None:
            record.disown()
            return
        await self._restore(run_id, record, before)

    async def _restore(self, run_id: UUID, record: Record, state: State) -> None:
        proposal = {
            "type": state.type,
            "name": state.name,
            "message": state.message,
            "data": state.data,
        }
        answer = await self._api.set_state(run_id, proposal)
        self._adopt(record, answer.state)
        self._runlog.write(run_id, f"Restored the run's final state {state.name}.")

    # The Job

    async def _create_job(self, run_id: UUID, record: Record) -> None:
        assert record.run is not None and record.claim is not None
        run, claim = record.run, record.claim
        if run.deployment_id and record.deployment is None:
            found = await self._api.deployments([run.deployment_id])
            record.deployment = found.get(run.deployment_id)
            if record.deployment is None:
                text = f"Deployment {run.deployment_id} no longer exists: the run was cancelled."
                await self._cancel(run_id, record, text)
                return
        try:
            manifest = await self._render(run, claim, record.deployment)
        except RenderError as error:
            await self._crash(run_id, record, End(f"The run's Job cannot be made. {error}"))
            return
        await self._submit(run_id, record, manifest)

    async def _render(
        self, run: Run, claim: Claim, deployment: dict[str, Any] | None
    ) -> dict[str, Any]:
        if run.flow_id not in self._flows:
            self._flows |= await self._api.flows([run.flow_id])
        subject = template.Subject(
            run=run.document,
            flow=self._flows[run.flow_id],
            deployment=deployment,
            pool=self._pool().document,
            worker_name=self._place.worker_name,
            environment=self._place.environment,
        )
        identity = self._place.identity(run.id, claim)
        return await template.render(subject, identity, client=self._api.client)

    async def _submit(self, run_id: UUID, record: Record, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        try:
            job = await self._kube.create(JOBS, self._place.namespace, manifest)
        except KubernetesRefused as refused:
            if refused.status == 409:
                job = await self._kube.get(JOBS, self._place.namespace, name)
                self._accept_existing(job, record)
            else:
                await self._refused(run_id, record, refused)
                return
        record.refusal, record.refusals, record.deployment = None, 0, None
        self._job_cache.put(job)
        self._runlog.write(run_id, f"Created Kubernetes Job {self._place.namespace}/{name}.")

    @staticmethod
    def _accept_existing(job: Job, record: Record) -> None:
        """A Job of the name exists: ours if its pod template says so (races.md 14)."""
        assert record.claim is not None
        if job.deleting or job.claim_id != str(record.claim.id):
            raise KubernetesRefused(
                f"Job {job.name} exists and is not this run's, or is being deleted",
                status=409,
                reason="AlreadyExists",
            )

    async def _refused(self, run_id: UUID, record: Record, refused: KubernetesRefused) -> None:
        """What time can mend is waited for; the rest crashes the run with the fix."""
        text = str(refused)
        if wait := _passing(refused):
            record.refusals += 1
            delay = min(2.0**record.refusals, LONGEST_REFUSAL_SECONDS) * random.uniform(0.8, 1.2)
            record.refusal = wait
            record.refused_until = time.monotonic() + delay
            return
        if refused.status in (401, 403):
            self._forbidden(text)
        advice = _advice(refused, self._place.namespace)
        await self._crash(
            run_id, record, End(f"The API server refused the run's Job: {text} {advice}")
        )

    async def _record_job(self, run_id: UUID, record: Record, name: str) -> None:
        pid = f"{self._place.namespace}:{name}"
        await self._api.update_run(run_id, {"infrastructure_pid": pid})
        if record.run:
            document = {**record.run.document, "infrastructure_pid": pid}
            record.run = Run.of(document)

    # While it waits

    async def _explain(self, run_id: UUID, record: Record, wait: Wait) -> None:
        assert record.claim is not None
        proposal = {
            "type": "PENDING",
            "name": wait.category,
            "message": wait.message,
            "state_details": {"transition_id": str(record.claim.substate_id(wait.category))},
        }
        answer = await self._api.set_state(run_id, proposal)
        self._adopt(record, answer.state)
        if answer.accepted and not record.phantom:
            self._runlog.write(run_id, f"{wait.category}: {wait.message}", level=logging.WARNING)

    async def _diagnose(self, record: Record, kind: str, name: str) -> None:
        query = {"fieldSelector": f"involvedObject.kind={kind},involvedObject.name={name}"}
        body = await self._kube.request("GET", EVENTS.path(self._place.namespace), query=query)
        record.diagnosed_at = time.monotonic()
        record.diagnosis = verdict.refused(views.events_of(body), what=f"{kind} {name}")

    async def _renew_lease(self, record: Record) -> None:
        assert record.claim is not None and record.claim.lease_id is not None
        record.lease_renewed_at = time.monotonic()
        try:
            await self._api.renew_lease(record.claim.lease_id, seconds=LEASE_SECONDS)
        except PrefectRefused as refused:
            log.warning("a deployment's concurrency slot was lost: %s", refused)

    # The end

    async def _crash(
        self, run_id: UUID, record: Record, end: End, *, with_logs: bool = False
    ) -> None:
        tail = await self._last_lines(run_id) if with_logs else ""
        message = verdict.with_logs(end, tail)
        await self._finish(
            run_id, record, {"type": "CRASHED", "name": "Crashed", "message": message}
        )

    async def _cancel(self, run_id: UUID, record: Record, message: str) -> None:
        proposal = {"type": "CANCELLED", "name": "Cancelled", "message": message}
        await self._finish(run_id, record, proposal)

    async def _finish(self, run_id: UUID, record: Record, proposal: dict[str, Any]) -> None:
        answer = await self._api.set_state(run_id, proposal)
        self._adopt(record, answer.state)
        if answer.accepted:
            level = logging.ERROR if proposal["type"] == "CRASHED" else logging.INFO
            self._runlog.write(run_id, proposal["message"], level=level)
            log.info(
                "run %s ended %s: %s", run_id, proposal["name"], proposal["message"].split("\n")[0]
            )

    async def _last_lines(self, run_id: UUID) -> str:
        """The end of the newest pod's log; "" where there is none to be had."""
        query = {"labelSelector": f"{views.RUN_LABEL}={run_id}"}
        namespace = self._place.namespace
        try:
            page = views.pods_of(await self._kube.request("GET", PODS.path(namespace), query=query))
            pods: list[Pod] = sorted(page, key=lambda pod: str(pod.metadata.creation_timestamp))
            if not pods:
                return ""
            container = pods[-1].spec.containers[0].name
            path = PODS.path(namespace, pods[-1].metadata.name) + "/log"
            tail = {"container": container, "tailLines": str(LOG_LINES)}
            return (await self._kube.request("GET", path, query=tail)).decode(errors="replace")
        except KubernetesRefused as refused:
            log.debug("no log of run %s: %s", run_id, refused)
            return ""

    async def _confirm_gone(self, record: Record, name: str) -> None:
        try:
            job = await self._kube.get(JOBS, self._place.namespace, name)
        except KubernetesRefused as refused:
            if refused.status != 404:
                raise
            record.job_confirmed_gone = name
        else:
            self._job_cache.put(job)

    async def _delete_job(self, run_id: UUID, job: Job, final: State | None) -> None:
        """Foreground: the Job, and with it its annotation, outlives the pod's SIGTERM handler."""
        if not self._ours(job):
            log.warning("Job %s is of another pool or server: left alone", job.name)
            self._ledger.drop(run_id)
            return
        if final and views.FINAL_STATE_ANNOTATION not in job.metadata.annotations:
            text = f"{final.type}/{final.name}/{final.message or ''}"
            patch = {"metadata": {"annotations": {views.FINAL_STATE_ANNOTATION: text}}}
            self._job_cache.put(
                await self._kube.patch(JOBS, self._place.namespace, job.name, patch)
            )
        await self._kube.delete(
            JOBS, self._place.namespace, job.name, uid=job.metadata.uid, propagation="Foreground"
        )

    def _ours(self, job: Job) -> bool:
        """A changed server URL must not end every Job of the one before."""
        server = job.metadata.annotations.get(views.SERVER_ANNOTATION)
        pool = job.spec.template.labels.get(views.POOL_LABEL)
        return server == self._place.server_url and pool == str(self._place.pool_id)

    async def _start_ttl(self, job: Job) -> None:
        own = job.metadata.annotations.get(views.TTL_ANNOTATION)
        ttl = int(own) if own is not None else self._jobs().ttl_seconds_after_finished
        patch = {"spec": {"ttlSecondsAfterFinished": ttl}}
        try:
            self._job_cache.put(
                await self._kube.patch(JOBS, self._place.namespace, job.name, patch)
            )
        except KubernetesRefused as refused:
            if refused.status != 404:
                raise
            self._job_cache.remove(job.metadata.uid)

    async def _reschedule(self, run_id: UUID, record: Record) -> None:
        assert record.run is not None
        policy = {**record.run.empirical_policy, "retry_type": "reschedule"}
        await self._api.update_run(run_id, {"empirical_policy": policy})
        record.run = Run.of({**record.run.document, "empirical_policy": policy})

    def _adopt(self, record: Record, state: State) -> None:
        """The run's state as an answer tells it."""
        now = time.monotonic()
        if record.run is None:
            record.changed_at = now
        else:
            self.heard(record, record.run.in_state(state), now)


def _passing(refused: KubernetesRefused) -> Wait | None:
    """A refusal that goes away without anybody changing the run."""
    text = str(refused)
    if refused.status == 403 and "exceeded quota" in text:
        advice = "It starts as soon as the namespace's quota allows."
        return Wait("QuotaExceeded", f"{text}. {advice}")
    if "admission webhook" in text:
        return Wait("JobRefused", f"{text}. The Job is tried again.")
    if refused.status == 409:
        return Wait("JobRefused", f"{text}. The Job is tried again.")
    return None


def _advice(refused: KubernetesRefused, namespace: str) -> str:
    if refused.status in (401, 403):
        return f"Grant the operator's ServiceAccount the right to create Jobs in {namespace!r}."
    if refused.status == 404:
        return f"Create the namespace {namespace!r}, or correct spec.jobs.namespace of the binding."
    return "Correct the deployment's job variables or the pool's base job template."
