"""Rules for how a run's Job ends, or does not. Pure.

No run is ended on a state that was read before the fact that requires it.

An end by the infrastructure before any code of the flow ran does not fail the run: it becomes
SCHEDULED again, and its next claim creates a new Job. Once the flow container ran, Prefect's own
retry settings decide.

A node that is down or unreachable does not end its pods: Kubernetes keeps them Terminating until
the Node object is deleted, and their Jobs active as long.

The kubelet ends native sidecars once the flow container has ended. A classic sidecar, an ordinary
second container, keeps running: its pod and its Job would take a slot until cancelled. The operator
ends the pod by its deadline, which keeps the pod and its log; a deletion would not
(docs/decisions/0010).
"""

from __future__ import annotations

from datetime import datetime

from workpool_operator.jobs import diagnosis, disruption
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.actions import (
    Action,
    ConfirmJobDeleted,
    DeleteJob,
    EndPod,
    LogToRun,
    Postpone,
    RefreshRun,
    RefreshStateHistory,
    ReportCrashed,
    RequeueAfter,
    StopRetries,
)
from workpool_operator.runs.rules import ClaimedInput, Input
from workpool_operator.runs.snapshot import Snapshot

RETRY_DELAYS = (10.0, 30.0, 90.0)  # seconds before the first, second and every further new Job
NODE_CHECK_SECONDS = 15.0  # a lease is renewed meanwhile


# The infrastructure ended the pod before any code of the flow ran.


def retry(given: ClaimedInput, job: Job) -> Action | None:
    """Reschedule a claimed run whose pod was ended by the infrastructure alone, a limited number of
    times."""
    snapshot = given.snapshot
    if not (job.ended and job.failed and _flow_never_started(snapshot)):
        return None
    if not given.is_sure("ended"):
        return RefreshRun()
    made, limit = snapshot.record.infrastructure_retries, given.timeouts.infrastructure_retries
    if made is None:
        return RefreshStateHistory()
    if made >= limit:
        return ReportCrashed(
            diagnosis.retries_exhausted(diagnosis.termination(job, snapshot.pods), limit=limit)
        )
    delay = RETRY_DELAYS[min(made, len(RETRY_DELAYS) - 1)]
    return Postpone(
        diagnosis.retry_after_disruption(snapshot.pods, number=made + 1, limit=limit, delay=delay),
        delay,
    )


def _flow_never_started(snapshot: Snapshot) -> bool:
    """Return whether no pod of the Job ran the flow container, or still could on a node that is
    cut off, and the infrastructure ended the last one."""
    if snapshot.started or not snapshot.pods:
        return False
    if any(
        pod.spec.node_name for pod in snapshot.live_pods if pod.job_name == snapshot.current_name
    ):
        return False
    return disruption.by_infrastructure(diagnosis.newest(snapshot.pods))


# The Job ended or vanished, but the run has not ended.


def job_ended(given: Input, job: Job) -> Action | None:
    """Crash a run whose Job failed, or completed some time ago without a report of the run."""
    if not job.ended:
        return None
    rest = given.remaining("ended", _end_grace(given, job))
    if rest > 0 and given.snapshot.read_since("ended"):
        return RequeueAfter(rest)
    return (
        ReportCrashed(diagnosis.termination(job, given.snapshot.pods))
        if given.is_sure("ended")
        else RefreshRun()
    )


def unreported(jobs: tuple[Job, ...]) -> Job | None:
    """Return a Job that ended and has no TTL yet: the TTL marks a reported end."""
    waiting = (job for job in jobs if job.ended and job.spec.ttl_seconds_after_finished is None)
    return next((job for job in waiting if not job.deleting), None)


def vanished(given: Input) -> Action:
    """Crash a run whose Job vanished. Caches can lag, so that a GET confirms it."""
    snapshot = given.snapshot
    if (rest := given.remaining("vanished", given.timeouts.vanish_grace)) > 0:
        return RequeueAfter(rest)
    if not snapshot.confirmed_deleted:
        return ConfirmJobDeleted(snapshot.current_name)
    if not given.is_sure("vanished"):
        return RefreshRun()
    return ReportCrashed(diagnosis.job_vanished(snapshot.current_name, snapshot.pods))


def _end_grace(given: Input, job: Job) -> float:
    """Return how many seconds to wait for the run's report, or for the status of the pod that
    failed the Job."""
    if not job.failed:
        return given.timeouts.report_grace
    is_explained = job.exceeded_deadline or any(pod.ended for pod in given.snapshot.pods)
    return 0.0 if is_explained else given.timeouts.status_grace


# A node does not end its pod.


def pod_overdue(given: Input, job: Job) -> Action | None:
    """Crash a run if all pods of its Job are being deleted and their nodes did not end them in
    time."""
    live = [(pod, _deadline(pod)) for pod in given.snapshot.live_pods if pod.job_name == job.name]
    leaving = [(pod, deadline) for pod, deadline in live if deadline is not None]
    if not live or len(leaving) < len(live):
        return None
    last, deadline = max(leaving, key=lambda pair: pair[1])
    if (rest := _until_lost(given, deadline)) > 0:
        return RequeueAfter(min(rest, NODE_CHECK_SECONDS))
    return ReportCrashed(diagnosis.node_lost(last)) if given.is_sure("leaving") else RefreshRun()


def blocked_by_lost_node(given: Input) -> Action | None:
    """Write to the run's log that its next attempt waits for a pod on a lost node, which may still
    run."""
    deadlines = ((pod, _deadline(pod)) for pod in given.snapshot.live_pods)
    lost = (pod for pod, due in deadlines if due is not None and _until_lost(given, due) <= 0)
    pod = next(lost, None)
    if pod is None or given.snapshot.record.noted == pod.metadata.name:
        return None
    return LogToRun(diagnosis.waits_for_lost_node(pod), about=pod.metadata.name)


def _until_lost(given: Input, deadline: datetime) -> float:
    """Return the seconds until the node of a pod that should have ended by `deadline` counts as
    lost."""
    return given.timeouts.node_grace - (given.wall - deadline).total_seconds()


def _deadline(pod: Pod) -> datetime | None:
    """Return when the kubelet should have ended the pod: the deletion plus the pod's own grace.
    None for a pod that is not being deleted, or has no node."""
    return pod.metadata.deletion_timestamp if pod.spec.node_name else None


# Only sidecars are running.


def flow_ended(given: Input, job: Job) -> Action | None:
    """Crash a run whose flow container ended without a report while sidecars are running, or end
    the pod for the Job's next attempt."""
    outlived = given.snapshot.outlived
    pod = next((p for p in outlived if p.job_name == job.name and not p.deleting), None)
    if pod is None or job.deleting or (end := diagnosis.flow_ended(pod)) is None:
        return None
    rest = given.remaining("outlived", given.timeouts.report_grace)
    if end.exit_code and job.retries:
        if pod.is_stopped or not pod.has_classic_sidecars:
            return None
        return RequeueAfter(rest) if rest > 0 else EndPod(pod)
    if rest > 0 and not end.exit_code and given.snapshot.read_since("outlived"):
        return RequeueAfter(rest)
    return ReportCrashed(end) if given.is_sure("outlived") else RefreshRun()


def end_sidecars(given: Input, job: Job) -> Action | None:
    """End the sidecars of a flow that has ended, after their grace; None if none are running."""
    pod = next((pod for pod in given.snapshot.outlived if pod.job_name == job.name), None)
    if pod is None:
        return None
    timeouts = given.timeouts
    if (rest := given.remaining("outlived", timeouts.final_grace)) > 0:
        return RequeueAfter(rest)
    if not given.is_recent:
        return RefreshRun()
    if pod.has_classic_sidecars and not pod.deleting:
        if job.spec.backoff_limit:
            return StopRetries(job)
        if not pod.is_stopped:
            return EndPod(pod)
    limit = (
        timeouts.final_grace + pod.spec.termination_grace_period_seconds + timeouts.kubelet_grace
    )
    rest = given.remaining("outlived", limit)
    return RequeueAfter(rest) if rest > 0 else DeleteJob(job)
