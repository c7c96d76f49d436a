"""Rules for a pod that lives on although the flow's container in it has ended. Pure.

A native sidecar is ended by the kubelet then. A classic one, an ordinary second container, runs on,
and with it pod and Job: they would hold their slot for ever. Ending the pod by its own deadline
keeps it, and its log, where a deletion would not (docs/decisions/0010).
"""

from __future__ import annotations

from workpool_operator.dispatch.ended import is_sure
from workpool_operator.dispatch.observed import Observed
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.steps import (
    Crash,
    DeleteJob,
    EndPod,
    Later,
    Read,
    Step,
    StopRetries,
)
from workpool_operator.jobs import verdict
from workpool_operator.kube.views import Job


def unreported(seen: Observed, job: Job, policy: Policy) -> Step | None:
    """The run has not ended, the flow's container has: the Job's next attempt follows, or the run
    crashes. None where no pod is like that, or all of it is ending anyway."""
    pod = next((p for p in seen.outlived if p.job_name == job.name and not p.deleting), None)
    if pod is None or job.deleting or (end := verdict.flow_ended(pod)) is None:
        return None
    rest = policy.report_grace - seen.held("outlived")
    if end.exit_code and job.retries:
        if pod.is_stopped or not pod.has_classic_sidecars:
            return None
        return Later(rest) if rest > 0 else EndPod(pod)
    if rest > 0 and not end.exit_code and seen.fresh("outlived"):
        return Later(rest)
    return Crash(end) if is_sure(seen, policy, "outlived") else Read()


def end(seen: Observed, job: Job, policy: Policy) -> Step | None:
    """Nobody waits for the flow any more: its sidecars have their grace. None where none live."""
    pod = next((pod for pod in seen.outlived if pod.job_name == job.name), None)
    if pod is None:
        return None
    held = seen.held("outlived")
    if held < policy.final_grace:
        return Later(policy.final_grace - held)
    if seen.age > policy.state_age:
        return Read()
    if pod.has_classic_sidecars and not pod.deleting:
        if job.spec.backoff_limit:
            return StopRetries(job)
        if not pod.is_stopped:
            return EndPod(pod)
    limit = policy.final_grace + pod.spec.termination_grace_period_seconds + policy.kubelet_grace
    return Later(limit - held) if held < limit else DeleteJob(job)
