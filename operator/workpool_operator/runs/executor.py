"""Carries out what the table decided. Each action is one step that can be repeated, and puts what
it learned into the store. Decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, assert_never
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import (
    KubernetesConflict,
    KubernetesNotFound,
    LeaseNotHeld,
    OperatorError,
    PrefectNotFound,
    PrefectThrottled,
    PrefectUnavailable,
)
from workpool_operator.jobs import diagnosis, kueue, manifest
from workpool_operator.jobs.diagnosis import Termination, WaitReason
from workpool_operator.kube import events, models
from workpool_operator.kube.client import EVENTS, JOBS, PODS, KubernetesClient
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.kube.event_recorder import EventRecorder
from workpool_operator.kube.models import Event, Job, Pod
from workpool_operator.logs import first_line
from workpool_operator.prefect_api.models import Run, State
from workpool_operator.runs import actions
from workpool_operator.runs.job_creator import JobCreator
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.settings import RunSettings
from workpool_operator.runs.state_proposals import StateProposals
from workpool_operator.runs.store import RunStore
from workpool_operator.runs.workqueue import WorkQueue

log = logging.getLogger(__name__)

SOONEST_SECONDS = 0.05
LOG_LINES = 20
LOG_BYTES = str(1 << 20)
LOG_SECONDS = 5.0


class Executor:
    """Makes every write that the table decided; `settings()` returns the current settings.

    Other writes about a run are a worker's own reports (`worker/reports.py`) and those of
    `SecretCollector`.

    `holds_lease()` returns whether this process may act now. Reads need no Lease, so that the store
    stays current (docs/decisions/0042).
    """

    def __init__(
        self,
        *,
        namespace_of: Callable[[UUID], str],
        kube: KubernetesClient,
        queue: WorkQueue[UUID],
        store: RunStore,
        cluster: ClusterCache,
        proposals: StateProposals,
        job_creator: JobCreator,
        settings: Callable[[], RunSettings],
        listener: Listener,
        recorder: EventRecorder,
        traceparent: Callable[[UUID], str] = lambda _: "",
        holds_lease: Callable[[], bool] = lambda: True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._namespace_of = namespace_of
        self._holds_lease = holds_lease
        self._kube = kube
        self._queue = queue
        self._store = store
        self._cluster = cluster
        self._proposals = proposals
        self._job_creator = job_creator
        self._settings = settings
        self._listener = listener
        self._recorder = recorder
        self._traceparent = traceparent
        self._clock = clock

    async def execute(self, run_id: UUID, action: actions.Action) -> bool:
        """Carry out one action and return whether to decide again at once.

        If Prefect did not answer, or answered 404, the run is read before the next decision.

        Raises:
            LeaseNotHeld: the action was not begun; decide again later.
            Unavailable: the action may or may not have taken effect; decide again later.
            Refused: the action had no effect, for a reason that no rule covers.
        """
        try:
            match action:
                case actions.NoAction():
                    return False
                case actions.RequeueAfter(seconds=seconds):
                    self._queue.add_after(run_id, max(SOONEST_SECONDS, seconds))
                    return False
                case actions.ForgetRun():
                    self._forget(run_id)
                    return False
                case actions.DropOffer(is_expired=late):
                    self._drop_offer(run_id, late=late)
                case actions.PollAgain():
                    self._store.update(run_id, not_before=None)
                    self._listener.run_due()
                case actions.LogToRun(text=text, about=about):
                    self._proposals.log(run_id, text, level=logging.INFO)
                    self._store.update(run_id, noted=about)
                case _:
                    if not (isinstance(action, actions.ReadAction) or self._holds_lease()):
                        raise LeaseNotHeld
                    await self._execute_remote(run_id, action)
        except PrefectThrottled:
            raise
        except PrefectUnavailable:
            self._store.mark_stale(run_id)
            raise
        except PrefectNotFound:
            self._store.mark_stale(run_id)
        return True

    async def _execute_remote(
        self,
        run_id: UUID,
        action: actions.ReadAction | actions.PrefectAction | actions.KubernetesAction,
    ) -> None:
        """Carry out an action that needs a request to Prefect or to Kubernetes."""
        propose = self._proposals
        match action:
            case actions.RefreshRun():
                await propose.read(run_id)
            case actions.RefreshStateHistory():
                await propose.read_history(run_id)
            case actions.ClaimRun():
                try:
                    await propose.claim(run_id)
                finally:
                    self._listener.offer_closed(run_id)
            case actions.RevertClaim():
                await propose.revert_claim(run_id)
            case actions.RestoreState(state=state):
                await propose.restore(run_id, state)
            case actions.RecordInfrastructurePid(name=name):
                await propose.record_infrastructure_pid(
                    run_id, f"{self._namespace_of(run_id)}:{name}"
                )
                await propose.hand_over_trace(run_id, self._traceparent(run_id))
            case actions.ReportWaiting(wait=wait, claim=claim):
                await propose.report_waiting(run_id, wait, claim)
            case actions.Postpone(wait=wait, delay=delay):
                await propose.postpone(run_id, wait, delay=delay)
                self._report_slot(self._store.of(run_id).run)
            case actions.RenewLease(lease_id=lease_id):
                await propose.renew_lease(run_id, lease_id)
            case actions.Reschedule(run=run):
                await propose.reschedule(run)
                self._listener.run_due()
            case actions.CancelRun():
                await propose.cancel(run_id)
            case actions.ReportCancelled(message=message):
                await propose.report_cancelled(run_id, message)
            case actions.ReportCrashed(end=end):
                text = diagnosis.with_logs(end, await self._last_lines(run_id, end))
                self._store.update(run_id, crash_reason=end.reason)
                await propose.report_crashed(run_id, text)
                self._announce_crash(run_id, first_line(text))
            case _:
                await self._execute_in_kubernetes(run_id, action)

    async def _execute_in_kubernetes(self, run_id: UUID, action: actions.KubernetesAction) -> None:
        match action:
            case actions.CreateJob(claimed=claimed):
                await self._job_creator.create_job(claimed)
            case actions.AdoptJob(job=job, claim=claim):
                annotations = {models.CLAIM_ANNOTATION: str(claim.id)}
                await self._patch(job, metadata={"annotations": annotations})
                log.info("run %s continues in Job %s", run_id, job.metadata.key)
            case actions.ReadEvents(kind=kind, name=name):
                await self._read_events(run_id, kind, name)
            case actions.ReadQueueEvents(name=name):
                await self._read_queue_events(run_id, name)
            case actions.ConfirmJobDeleted(name=name):
                await self._confirm_job_deleted(run_id, name)
            case actions.DeleteJob(job=job, final=final, note=note):
                await self._delete_job(job, final)
                self._proposals.log(run_id, note)
                text = "run %s is %s: deleted its Job %s"
                log.info(text, run_id, self._state(run_id), job.metadata.key)
                self._announce_deletion(run_id, job)
            case actions.StopRetries(job=job):
                await self._patch(job, spec={"backoffLimit": 0})
                log.info("run %s: Job %s replaces no more pods", run_id, job.metadata.key)
            case actions.RetryPods(job=job):
                await self._retry_pods(run_id, job)
            case actions.EndPod(pod=pod):
                await self._end_pod(run_id, pod)
            case actions.PostWaitEvent(wait=wait, job=job, pod=pod):
                await self._post_wait_event(run_id, wait, job=job, pod=pod)
            case actions.SetJobTTL(job=job, note=note):
                await self._set_job_ttl(run_id, job)
                self._proposals.log(run_id, note)
                self._report_end(self._store.of(run_id).run)
            case _:
                assert_never(action)

    def _forget(self, run_id: UUID) -> None:
        run = self._store.of(run_id).run
        self._store.drop(run_id)
        self._cluster.forget(run_id)
        self._report_end(run)

    def _report_end(self, run: Run | None) -> None:
        """Report that slots may be free: an ended run returns that of its deployment, too."""
        self._listener.capacity_freed()
        if run and run.final:
            self._report_slot(run)

    def _report_slot(self, run: Run | None) -> None:
        if run and run.deployment_id:
            self._listener.slot_returned(run.deployment_id)

    def _drop_offer(self, run_id: UUID, *, late: bool) -> None:
        self._store.update(run_id, offered_at=None)
        if late:
            self._listener.run_due()
        else:
            self._listener.offer_closed(run_id)

    async def _read_events(self, run_id: UUID, kind: str, name: str) -> None:
        found = await self._events(run_id, kind, name)
        reason = diagnosis.no_pods_reason(found, what=f"{kind} {name}")
        self._store.update(run_id, events_read_at=self._clock.monotonic(), event_reason=reason)

    async def _read_queue_events(self, run_id: UUID, job_name: str) -> None:
        """Read from the Events which Workload Kueue created for the Job, and what the Workload
        lacks."""
        # Events are read once: the wait is reported even if they cannot be read.
        self._store.update(run_id, workload="")
        workload = kueue.workload_name(await self._events(run_id, "Job", job_name))
        found = await self._events(run_id, "Workload", workload) if workload else ()
        reason = kueue.pending_reason(found)
        self._store.update(run_id, workload=reason)

    async def _events(self, run_id: UUID, kind: str, name: str) -> tuple[Event, ...]:
        about = f"involvedObject.kind={kind},involvedObject.name={name}"
        return await self._kube.list(EVENTS, self._namespace_of(run_id), field_selector=about)

    async def _last_lines(self, run_id: UUID, end: Termination) -> str:
        """Return the last log lines of the container that ended the run; "" if they cannot be read.
        They explain the end and must not delay it."""
        if not end.container:
            return ""
        path = PODS.path(self._namespace_of(run_id), end.pod) + "/log"
        query = {"container": end.container, "tailLines": str(LOG_LINES), "limitBytes": LOG_BYTES}
        try:
            async with asyncio.timeout(LOG_SECONDS):
                return (await self._kube.request("GET", path, query=query)).decode(errors="replace")
        except (OperatorError, TimeoutError) as error:
            log.debug("cannot read the log of pod %s, %s: %s", end.pod, end.container, error)
            return ""

    async def _post_wait_event(self, run_id: UUID, wait: WaitReason, *, job: Job, pod: Pod) -> None:
        """Report the wait in the run's log and by an Event on the Job. The Event's name shows
        whether an earlier process reported it."""
        event = events.job_warning(
            job,
            reason=wait.category,
            message=wait.message,
            about=pod.metadata,
            now=self._clock.now(),
        )
        known = False
        try:
            await self._kube.create(EVENTS, job.metadata.namespace, event)
        except OperatorError as error:
            known = isinstance(error, KubernetesConflict)
            log.debug("cannot create an Event on Job %s: %s", job.name, error)
        reported = (pod.metadata.name, wait.category)
        self._store.update(run_id, reported=reported)
        if not known:
            text = f"Pod {pod.metadata.name} does not start. {wait.category}: {wait.message}"
            self._proposals.log(run_id, text, level=wait.level)
            log.info("run %s waits: %s", run_id, first_line(text))

    async def _retry_pods(self, run_id: UUID, job: Job) -> None:
        self._store.update(run_id, pods_retried_at=self._clock.monotonic())
        annotations = {models.POD_RETRY_ANNOTATION: self._clock.now().isoformat()}
        await self._patch(job, metadata={"annotations": annotations})

    async def _end_pod(self, run_id: UUID, pod: Pod) -> None:
        """Have the kubelet end the pod as if its deadline had passed; the pod and its log are
        kept."""
        name, namespace, uid = pod.metadata.name, pod.metadata.namespace, pod.metadata.uid
        change = {
            "metadata": {"uid": uid},
            "spec": {"activeDeadlineSeconds": models.STOP_DEADLINE_SECONDS},
        }
        try:
            self._cluster.pods.put_if_newer(await self._kube.patch(PODS, namespace, name, change))
            log.info("run %s: has the kubelet end pod %s", run_id, pod.metadata.key)
        except (KubernetesNotFound, KubernetesConflict):
            self._cluster.pods.remove(uid)

    async def _confirm_job_deleted(self, run_id: UUID, name: str) -> None:
        """Read the Job, also in the namespace that Prefect recorded: a binding may have been
        recreated with another."""
        run = self._store.of(run_id).run
        recorded = run.infrastructure_pid if run else None
        namespace, _, recorded_name = (recorded or "").rpartition(":")
        where = namespace if recorded_name == name and namespace else self._namespace_of(run_id)
        try:
            self._cluster.jobs.put_if_newer(await self._kube.get(JOBS, where, name))
        except KubernetesNotFound:
            self._store.update(run_id, job_confirmed_deleted=name)

    async def _delete_job(self, job: Job, final: State | None) -> None:
        """Delete the Job in the foreground: the Job and its annotation then outlive the pod's
        SIGTERM handler."""
        if final and job.final_state is None:
            state = models.FinalState(final.type, final.name, final.message or "")
            annotations = {models.FINAL_STATE_ANNOTATION: state.as_annotation()}
            await self._patch(job, metadata={"annotations": annotations})
        namespace, uid = job.metadata.namespace, job.metadata.uid
        left = await self._kube.delete(JOBS, namespace, job.name, uid=uid)
        if left is None:
            self._cluster.jobs.remove(job.metadata.uid)
        else:
            self._cluster.jobs.put_if_newer(left)

    def _announce_crash(self, run_id: UUID, message: str) -> None:
        """Post the crash where a person looks for it: on the Job, or without one on the binding."""
        record = self._store.of(run_id)
        if record.run is None or record.state_type != "CRASHED":
            return
        jobs = self._cluster.jobs.by_run_with_tombstones(str(run_id))
        job = next((job for job in jobs if job.name == record.observed_name), None)
        if job is None:
            self._listener.ended_without_job(record.run, record.crash_reason)
            return
        text = f"Flow run {record.name!r} is Crashed: {message}"
        self._recorder.event(events.job_reference(job), "Warning", events.RUN_CRASHED, text)

    def _announce_deletion(self, run_id: UUID, job: Job) -> None:
        run = self._store.of(run_id).run
        name = f"Flow run {run.name!r}" if run else "Its flow run"
        text = f"{name} is {self._state(run_id)}: the operator deletes the Job."
        self._recorder.event(events.job_reference(job), "Normal", events.RUN_ENDED, text)

    async def _set_job_ttl(self, run_id: UUID, job: Job) -> None:
        run, own = self._store.of(run_id).run, manifest.ttl_of(job.metadata.annotations)
        ended = run.state_type if run is not None else ""
        # The Job of a completed run is Failed if its sidecars had to be stopped.
        failed = ended in ("FAILED", "CRASHED") or (job.failed and ended != "COMPLETED")
        ttl = self._settings().ttl(failed=failed) if own is None else own
        await self._patch(job, spec={"ttlSecondsAfterFinished": ttl})
        text = "run %s is %s: its Job %s is kept for %s s"
        log.info(text, run_id, self._state(run_id), job.metadata.key, ttl)

    def _state(self, run_id: UUID) -> str:
        """Return the name of the run's state, for the log."""
        run = self._store.of(run_id).run
        return run.state_name if run else "gone"

    async def _patch(self, job: Job, **change: dict[str, Any]) -> None:
        """Patch exactly this Job, if it still exists."""
        metadata = {**change.get("metadata", {}), "uid": job.metadata.uid}
        patch = {**change, "metadata": metadata}
        namespace = job.metadata.namespace
        try:
            self._cluster.jobs.put_if_newer(
                await self._kube.patch(JOBS, namespace, job.name, patch)
            )
        except (KubernetesNotFound, KubernetesConflict):
            self._cluster.jobs.remove(job.metadata.uid)
