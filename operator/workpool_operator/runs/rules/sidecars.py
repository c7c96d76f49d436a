"""Rules for a pod that is running although its flow container has ended. Pure.

The kubelet then ends native sidecars. A classic sidecar, an ordinary second container, keeps
running: its pod and its Job would take a slot until cancelled. The operator ends the pod by its
deadline, which keeps the pod and its log; a deletion would not (docs/decisions/0010).
"""

from __future__ import annotations

from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job
from workpool_operator.runs.actions import (
    Action,
    DeleteJob,
    EndPod,
    RefreshRun,
    ReportCrashed,
    RequeueAfter,
    StopRetries,
)
from workpool_operator.runs.rules import Input


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


def end_pods(given: Input, job: Job) -> Action | None:
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
