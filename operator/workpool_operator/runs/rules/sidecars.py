"""Rules for a pod that lives on although the flow's container in it has ended. Pure.

A native sidecar is ended by the kubelet then. A classic one, an ordinary second container, runs on,
and with it pod and Job: they would hold their slot for ever. Ending the pod by its own deadline
keeps it, and its log, where a deletion would not (docs/decisions/0010).
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
    """Crash a run whose flow's container ended without a report while sidecars live, or end the pod
    for the Job's next attempt. None if no pod is like that, or all of it is ending anyway."""
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
    """End the sidecars of a flow that is over, after their grace. None if none live."""
    pod = next((pod for pod in given.snapshot.outlived if pod.job_name == job.name), None)
    if pod is None:
        return None
    policy = given.timeouts
    if (rest := given.remaining("outlived", policy.final_grace)) > 0:
        return RequeueAfter(rest)
    if not given.is_recent:
        return RefreshRun()
    if pod.has_classic_sidecars and not pod.deleting:
        if job.spec.backoff_limit:
            return StopRetries(job)
        if not pod.is_stopped:
            return EndPod(pod)
    limit = policy.final_grace + pod.spec.termination_grace_period_seconds + policy.kubelet_grace
    rest = given.remaining("outlived", limit)
    return RequeueAfter(rest) if rest > 0 else DeleteJob(job)
