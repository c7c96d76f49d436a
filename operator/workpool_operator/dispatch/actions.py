"""One coroutine per step: each makes one external write, may be repeated, and ends by telling the
ledger what it learnt. Decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from workpool_operator.dispatch import steps
from workpool_operator.dispatch.ledger import Ledger, Record
from workpool_operator.dispatch.place import Place
from workpool_operator.dispatch.proposals import Proposals
from workpool_operator.dispatch.settings import RunSettings
from workpool_operator.dispatch.submission import Submission
from workpool_operator.errors import (
    KubernetesConflict,
    KubernetesNotFound,
    OperatorError,
    PrefectNotFound,
    PrefectUnavailable,
)
from workpool_operator.jobs import manifest, queueing, verdict
from workpool_operator.jobs.verdict import End, Wait
from workpool_operator.kube import events, views
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.client import EVENTS, JOBS, PODS, KubernetesClient
from workpool_operator.kube.views import Event, Job, Pod
from workpool_operator.prefect_api.views import State

log = logging.getLogger(__name__)

LOG_LINES = 20
LOG_BYTES = str(1 << 20)
LOG_SECONDS = 5.0


class Actions:
    """The hands of the reconciler; `settings` is a live view."""

    def __init__(
        self,
        place: Place,
        *,
        kube: KubernetesClient,
        ledger: Ledger,
        job_cache: Cache[Job],
        pod_cache: Cache[Pod],
        proposals: Proposals,
        submission: Submission,
        settings: Callable[[], RunSettings],
    ) -> None:
        self._namespace = place.namespace
        self._kube = kube
        self._ledger = ledger
        self._job_cache = job_cache
        self._pod_cache = pod_cache
        self._proposals = proposals
        self._submission = submission
        self._settings = settings

    async def act(self, run_id: UUID, step: steps.Step) -> None:
        """Carry out one step. Whatever Prefect did not answer plainly is read again.

        Raises:
            Unavailable: nobody knows whether it had its effect; decide again later.
            Refused: it had none, for a reason that the table does not foresee.
        """
        record = self._ledger.of(run_id)
        try:
            await self._prefect(run_id, record, step)
            await self._kubernetes(run_id, record, step)
        except PrefectUnavailable:
            record.doubt(time.monotonic())
            raise
        except PrefectNotFound:
            record.doubt(time.monotonic())

    async def _prefect(self, run_id: UUID, record: Record, step: steps.Step) -> None:
        say = self._proposals
        match step:
            case steps.Forget():
                self._ledger.drop(run_id)
            case steps.Withdraw():
                record.offered_at = None
            case steps.Read():
                await say.read(run_id, record)
            case steps.ReadHistory():
                await say.read_history(run_id, record)
            case steps.Claim():
                await say.claim(run_id, record)
            case steps.UndoClaim():
                await say.undo_claim(run_id, record)
            case steps.Restore(state=state):
                await say.restore(run_id, record, state)
            case steps.RecordJob(name=name):
                await say.record_job(run_id, record, name)
            case steps.Explain(wait=wait):
                await say.explain(run_id, record, wait)
            case steps.PutBack(wait=wait, delay=delay):
                await say.put_back(run_id, record, wait, delay=delay)
            case steps.Tell(text=text, about=about):
                say.note(run_id, text, level=logging.INFO)
                record.told = about
            case steps.RenewLease():
                await say.renew_lease(run_id, record)
            case steps.Reschedule():
                await say.reschedule(run_id, record)
            case steps.Cancel(message=message):
                await say.cancel(run_id, record, message)

    async def _kubernetes(self, run_id: UUID, record: Record, step: steps.Step) -> None:
        match step:
            case steps.CreateJob():
                await self._submission.create_job(run_id, record)
            case steps.Adopt(job=job):
                await self._adopt(record, job)
            case steps.Diagnose(kind=kind, name=name):
                await self._diagnose(record, kind, name)
            case steps.AskQueue(name=name):
                await self._ask_queue(record, name)
            case steps.ConfirmGone(name=name):
                await self._confirm_gone(record, name)
            case steps.DeleteJob(job=job, final=final, note=note):
                await self._delete_job(job, final)
                self._proposals.note(run_id, note)
            case steps.StopRetries(job=job):
                await self._patch(job, spec={"backoffLimit": 0})
            case steps.EndPod(pod=pod):
                await self._end_pod(pod)
            case steps.Report(wait=wait, job=job, pod=pod):
                await self._report(run_id, record, wait, job=job, pod=pod)
            case steps.StartTtl(job=job, note=note):
                await self._start_ttl(job)
                self._proposals.note(run_id, note)
            case steps.Crash(end=end):
                text = verdict.with_logs(end, await self._last_lines(end))
                await self._proposals.crash(run_id, record, text)

    async def _diagnose(self, record: Record, kind: str, name: str) -> None:
        found = await self._events(kind, name)
        record.diagnosed_at = time.monotonic()
        record.diagnosis = verdict.refused(found, what=f"{kind} {name}")

    async def _ask_queue(self, record: Record, job_name: str) -> None:
        """Kueue tells the Job which Workload stands for it, and the Workload what it lacks."""
        record.workload = ""  # it is asked once: the wait is named also where Events cannot be read
        workload = queueing.workload_of(await self._events("Job", job_name))
        found = await self._events("Workload", workload) if workload else ()
        record.workload = queueing.pending_reason(found)

    async def _events(self, kind: str, name: str) -> tuple[Event, ...]:
        about = f"involvedObject.kind={kind},involvedObject.name={name}"
        return await self._kube.list(EVENTS, self._namespace, field_selector=about)

    async def _last_lines(self, end: End) -> str:
        """The end of the log of the container that decided; "" where it cannot be had: it explains
        an end, and never delays one for long."""
        if not end.container:
            return ""
        path = PODS.path(self._namespace, end.pod) + "/log"
        query = {"container": end.container, "tailLines": str(LOG_LINES), "limitBytes": LOG_BYTES}
        try:
            async with asyncio.timeout(LOG_SECONDS):
                return (await self._kube.request("GET", path, query=query)).decode(errors="replace")
        except (OperatorError, TimeoutError) as error:
            log.debug("no log of container %s of pod %s: %s", end.container, end.pod, error)
            return ""

    async def _report(
        self, run_id: UUID, record: Record, wait: Wait, *, job: Job, pod: Pod
    ) -> None:
        """By an Event whose name says whether an earlier process did; it is decoration, too."""
        event = events.of_job(
            job,
            reason=wait.category,
            message=wait.message,
            about=pod.metadata,
            now=datetime.now(UTC),
        )
        known = False
        try:
            await self._kube.create(EVENTS, self._namespace, event)
        except OperatorError as error:
            known = isinstance(error, KubernetesConflict)
            log.debug("no Event on Job %s: %s", job.name, error)
        record.reported = (pod.metadata.name, wait.category)
        text = f"Pod {pod.metadata.name} does not start. {wait.category}: {wait.message}"
        self._proposals.note(run_id, "" if known else text, level=wait.level)

    async def _end_pod(self, pod: Pod) -> None:
        """The kubelet ends it as if its own deadline had passed, and keeps it with its log."""
        name, uid = pod.metadata.name, pod.metadata.uid
        change = {
            "metadata": {"uid": uid},
            "spec": {"activeDeadlineSeconds": views.STOP_DEADLINE_SECONDS},
        }
        try:
            self._pod_cache.offer(await self._kube.patch(PODS, self._namespace, name, change))
        except (KubernetesNotFound, KubernetesConflict):
            self._pod_cache.remove(uid)

    async def _confirm_gone(self, record: Record, name: str) -> None:
        """Also of a Job in another namespace, as of a binding that was made anew with another."""
        recorded = record.run.infrastructure_pid if record.run else None
        namespace, _, recorded_name = (recorded or "").rpartition(":")
        where = namespace if recorded_name == name and namespace else self._namespace
        try:
            self._job_cache.offer(await self._kube.get(JOBS, where, name))
        except KubernetesNotFound:
            record.job_confirmed_gone = name

    async def _delete_job(self, job: Job, final: State | None) -> None:
        """Foreground: the Job, and with it its annotation, outlives the pod's SIGTERM handler."""
        if final and views.FINAL_STATE_ANNOTATION not in job.metadata.annotations:
            text = f"{final.type}/{final.name}/{final.message or ''}"
            annotations = {views.FINAL_STATE_ANNOTATION: text}
            await self._patch(job, metadata={"annotations": annotations})
        left = await self._kube.delete(JOBS, self._namespace, job.name, uid=job.metadata.uid)
        if left is None:
            self._job_cache.remove(job.metadata.uid)
        else:
            self._job_cache.offer(left)

    async def _adopt(self, record: Record, job: Job) -> None:
        assert record.claim is not None
        claim = {views.CLAIM_ANNOTATION: str(record.claim.id)}
        await self._patch(job, metadata={"annotations": claim})

    async def _start_ttl(self, job: Job) -> None:
        own = manifest.ttl_of(job.metadata.annotations)
        ttl = self._settings().job_ttl if own is None else own
        await self._patch(job, spec={"ttlSecondsAfterFinished": ttl})

    async def _patch(self, job: Job, **change: dict[str, Any]) -> None:
        """Merge the change into exactly this Job, where it still exists."""
        metadata = {**change.get("metadata", {}), "uid": job.metadata.uid}
        patch = {**change, "metadata": metadata}
        try:
            self._job_cache.offer(await self._kube.patch(JOBS, self._namespace, job.name, patch))
        except (KubernetesNotFound, KubernetesConflict):
            self._job_cache.remove(job.metadata.uid)
