"""Explains what ended a pod from outside: the kubelet, the scheduler, a taint, the API. Pure.

The facts are the pod's own: the reason and message of its status, which the kubelet writes, and its
condition DisruptionTarget, which is set by the component that is about to end the pod. Nothing is
guessed.
"""

from __future__ import annotations

from workpool_operator.kube.models import Condition, Pod

# Words of a kubelet's message about an eviction, and the remedy; the first match counts.
_EVICTED = (
    ("EmptyDir volume", "Raise the volume's sizeLimit, or write less to it."),
    (
        "resource: memory",
        "The node itself ran out of memory: raise the memory request, so that the scheduler "
        "picks a node that has enough, or use larger nodes.",
    ),
    (
        "resource: ephemeral",
        "The node's disk is full: request ephemeral-storage, or clean up the node.",
    ),
    (
        "ephemeral",
        "Raise the ephemeral-storage limit and request, or write less to the container's disk.",
    ),
    ("resource: inodes", "The node ran out of inodes: write fewer files, or clean up the node."),
    ("resource: pids", "The node ran out of process ids: start fewer processes."),
)
_RETRY = "Retry the run."
# Reasons of the condition DisruptionTarget.
_DISRUPTED = {
    "PreemptionByScheduler": (
        "The scheduler preempted it for a pod with a higher priority",
        "Retry the run, or give its pods a priority class that is as high.",
    ),
    "DeletionByTaintManager": (
        "Its node has a taint that the pod does not tolerate",
        "Retry the run, or add a toleration for the taint.",
    ),
    "EvictionByEvictionAPI": (
        "It was evicted through the API, as when a node is drained or removed by an autoscaler",
        "Retry the run, or let drains wait until its pods have ended.",
    ),
    "DeletionByPodGC": ("Its node no longer exists", _RETRY),
}


def by_infrastructure(pod: Pod) -> bool:
    """Return whether its node or other pods are the reason that the pod ended or was rejected, and
    not its own limits or containers."""
    if pod.is_stopped:
        return False
    if disruption_target(pod) is not None:
        return True
    if pod.status.reason == "Evicted":
        return "exceed" not in pod.status.message
    return bool(pod.status.reason) and pod.status.reason != "DeadlineExceeded"


def explain_disruption(pod: Pod, *, advise: bool = True) -> str:
    """Explain who ended the pod, why, and what to do, in sentences; "" if that is not known."""
    fact, what, advice = _explain(pod)
    return _sentences(fact, what, advice if advise else "") if fact else ""


def disruption_reason(pod: Pod) -> str:
    """Return Kubernetes' own word for what ended the pod; "" if that is not known."""
    if pod.is_stopped:
        return ""
    target = disruption_target(pod)
    return pod.status.reason or (target.reason if target else "")


def _explain(pod: Pod) -> tuple[str, str, str]:
    name, status = pod.metadata.name, pod.status
    if pod.is_stopped:
        return "", "", ""
    if status.reason == "Evicted":
        advice = next((advice for sign, advice in _EVICTED if sign in status.message), _RETRY)
        return f"Pod {name} was evicted by the kubelet (Evicted)", status.message, advice
    if status.reason:
        return f"Pod {name} failed: {status.reason}", status.message, ""
    if condition := disruption_target(pod):
        what, advice = _DISRUPTED.get(condition.reason, (condition.message, _RETRY))
        return f"Pod {name} was terminated ({condition.reason})", what, advice
    return "", "", ""


def disruption_target(pod: Pod) -> Condition | None:
    """Return the condition that announces a disruption; None if no disruption is announced."""
    targets = (c for c in pod.status.conditions if c.type == "DisruptionTarget")
    return next((c for c in targets if c.status == "True"), None)


def _sentences(fact: str, *others: str) -> str:
    parts = [" ".join(part.split()).rstrip(".") for part in (fact, *others)]
    return " ".join(f"{part}." for part in parts if part)
