"""Rules for a pod that its node does not end: the node is dead, or cut off. Pure.

Kubernetes keeps such a pod Terminating until its Node object is deleted, and its Job alive as long.
"""

from __future__ import annotations

from datetime import datetime

from workpool_operator.dispatch.ended import is_sure
from workpool_operator.dispatch.observed import Observed
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.steps import Crash, Later, Read, Step, Tell
from workpool_operator.jobs import verdict
from workpool_operator.kube.views import Pod

LOOK_SECONDS = 15.0  # a lease is renewed meanwhile


def overdue(seen: Observed, policy: Policy, wall: datetime) -> Step | None:
    """Every pod that the run's Job still has is to be deleted, and its node has not ended it."""
    live = [pod for pod in seen.live_pods if pod.job_name == seen.current_name]
    if not live or not all(_is_leaving(pod) for pod in live):
        return None
    last = max(live, key=_deadline)
    if (rest := _rest(last, policy, wall)) > 0:
        return Later(min(rest, LOOK_SECONDS))
    if not is_sure(seen, policy, "leaving"):
        return Read()
    return Crash(verdict.node_lost(last))


def blocking(seen: Observed, policy: Policy, wall: datetime) -> Step | None:
    """The run is to be run again, and a pod of its last attempt may still run: its log says so."""
    leaving = (pod for pod in seen.live_pods if _is_leaving(pod))
    pod = next((pod for pod in leaving if _rest(pod, policy, wall) <= 0), None)
    if pod is None or seen.told == pod.metadata.name:
        return None
    return Tell(verdict.blocked(pod), about=pod.metadata.name)


def _rest(pod: Pod, policy: Policy, wall: datetime) -> float:
    """Seconds until its node counts as lost."""
    return policy.node_grace - (wall - _deadline(pod)).total_seconds()


def _is_leaving(pod: Pod) -> bool:
    return pod.deleting and bool(pod.spec.node_name)


def _deadline(pod: Pod) -> datetime:
    """When the kubelet was to have ended it: the deletion plus the pod's own grace."""
    assert pod.metadata.deletion_timestamp is not None
    return pod.metadata.deletion_timestamp
