"""Rules for a pod that its node does not end, because the node is down or unreachable. Pure.

Kubernetes keeps such a pod Terminating until its Node object is deleted, and its Job active as
long.
"""

from __future__ import annotations

from datetime import datetime

from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.actions import Action, LogToRun, RefreshRun, ReportCrashed, RequeueAfter
from workpool_operator.runs.rules import Input

CHECK_SECONDS = 15.0  # a lease is renewed meanwhile


def overdue(given: Input, job: Job) -> Action | None:
    """Crash a run if all pods of its Job are being deleted and their nodes did not end them in
    time."""
    live = [(pod, _deadline(pod)) for pod in given.snapshot.live_pods if pod.job_name == job.name]
    leaving = [(pod, deadline) for pod, deadline in live if deadline is not None]
    if not live or len(leaving) < len(live):
        return None
    last, deadline = max(leaving, key=lambda pair: pair[1])
    if (rest := _rest(given, deadline)) > 0:
        return RequeueAfter(min(rest, CHECK_SECONDS))
    return ReportCrashed(diagnosis.node_lost(last)) if given.is_sure("leaving") else RefreshRun()


def blocked(given: Input) -> Action | None:
    """Write to the run's log that its next attempt waits for a pod on a lost node, which may still
    run."""
    deadlines = ((pod, _deadline(pod)) for pod in given.snapshot.live_pods)
    lost = (pod for pod, due in deadlines if due is not None and _rest(given, due) <= 0)
    pod = next(lost, None)
    if pod is None or given.snapshot.record.noted == pod.metadata.name:
        return None
    return LogToRun(diagnosis.waits_for_lost_node(pod), about=pod.metadata.name)


def _rest(given: Input, deadline: datetime) -> float:
    """Return the seconds until the node of a pod that should have ended by `deadline` counts as
    lost."""
    return given.timeouts.node_grace - (given.wall - deadline).total_seconds()


def _deadline(pod: Pod) -> datetime | None:
    """Return when the kubelet should have ended the pod: the deletion plus the pod's own grace.
    None for a pod that is not being deleted, or has no node."""
    return pod.metadata.deletion_timestamp if pod.spec.node_name else None
