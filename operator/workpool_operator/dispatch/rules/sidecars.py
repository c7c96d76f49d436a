"""Rules for a pod that lives on although the flow's container in it has ended. Pure.

A native sidecar is ended by the kubelet then. A classic one, an ordinary second container, runs on,
and with it pod and Job: they would hold their slot for ever. Ending the pod by its own deadline
keeps it, and its log, where a deletion would not (docs/decisions/0010).
"""

from __future__ import annotations

from workpool_operator.dispatch.rules import Input
from workpool_operator.dispatch.steps import (
    Crash,
    DeleteJob,
    EndPod,
    Later,
    Read,
    Step,
    StopRetries,
)
from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job


def flow_ended(given: Input, job: Job) -> Step | None:
    """Crash a run whose flow's container ended without a report while sidecars live, or end the pod
    for the Job's next attempt. None if no pod is like that, or all of it is ending anyway."""
    outlived = given.seen.outlived
    pod = next((p for p in outlived if p.job_name == job.name and not p.deleting), None)
    if pod is None or job.deleting or (end := diagnosis.flow_ended(pod)) is None:
        return None
    rest = given.rest("outlived", given.policy.report_grace)
    if end.exit_code and job.retries:
        if pod.is_stopped or not pod.has_classic_sidecars:
            return None
        return Later(rest) if rest > 0 else EndPod(pod)
    if rest > 0 and not end.exit_code and given.seen.read_since("outlived"):
        return Later(rest)
    return Crash(end) if given.is_sure("outlived") else Read()


def end_pods(given: Input, job: Job) -> Step | None:
    """End the sidecars of a flow that is over, after their grace. None if none live."""
    pod = next((pod for pod in given.seen.outlived if pod.job_name == job.name), None)
    if pod is None:
        return None
    policy = given.policy
    if (rest := given.rest("outlived", policy.final_grace)) > 0:
        return Later(rest)
    if not given.is_recent:
        return Read()
    if pod.has_classic_sidecars and not pod.deleting:
        if job.spec.backoff_limit:
            return StopRetries(job)
        if not pod.is_stopped:
            return EndPod(pod)
    limit = policy.final_grace + pod.spec.termination_grace_period_seconds + policy.kubelet_grace
    rest = given.rest("outlived", limit)
    return Later(rest) if rest > 0 else DeleteJob(job)
