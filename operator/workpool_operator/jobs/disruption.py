"""What ended a pod from outside: the kubelet, the scheduler, a taint, the API. Pure.

The facts are the pod's own: its status' reason and message, which the kubelet writes, and its
condition DisruptionTarget, which whoever is about to end a pod sets. Nothing is guessed.
"""

from __future__ import annotations

from workpool_operator.kube.models import Condition, Pod

# What a kubelet's message about an eviction says, and what helps; the first that fits.
_EVICTED = (
    ("EmptyDir volume", "Raise the volume's sizeLimit, or write less to it."),
    (
        "resource: memory",
        "The node itself ran out of memory: raise the memory request, so that the scheduler "
        "finds a node that has as much, or give the node more.",
    ),
    (
        "resource: ephemeral",
        "The node's disk is full: request ephemeral-storage, or clean the node up.",
    ),
    (
        "ephemeral",
        "Raise the ephemeral-storage limit and request, or write less to the container's disk.",
    ),
    ("resource: inodes", "The node ran out of inodes: write fewer files, or clean the node up."),
    ("resource: pids", "The node ran out of process ids: start fewer processes."),
)
_RETRY = "Retry the run."
# Reasons of the condition DisruptionTarget.
_DISRUPTED = {
    "PreemptionByScheduler": (
        "The scheduler preempted it for a pod of a higher priority",
        "Retry the run, or give its pods a priority class as high.",
    ),
    "DeletionByTaintManager": (
        "Its node has a taint that it does not tolerate",
        "Retry the run, or tolerate the taint.",
    ),
    "EvictionByEvictionAPI": (
        "The API evicted it, as when a node is drained or an autoscaler takes it away",
        "Retry the run, or have whoever drains nodes wait for its pods.",
    ),
    "DeletionByPodGC": ("Its node is gone", _RETRY),
}


def by_infrastructure(pod: Pod) -> bool:
    """The pod was ended for the sake of its node or of other pods, or its node did not take it:
    neither its own limits nor its containers had a part in that."""
    if pod.is_stopped:
        return False
    if disruption_target(pod) is not None:
        return True
    if pod.status.reason == "Evicted":
        return "exceed" not in pod.status.message
    return bool(pod.status.reason) and pod.status.reason != "DeadlineExceeded"


def explain_disruption(pod: Pod, *, advise: bool = True) -> str:
    """Who ended the pod, why, and what helps, as sentences; "" where no one is known to have."""
    fact, what, advice = _explain(pod)
    return _sentences(fact, what, advice if advise else "") if fact else ""


def _explain(pod: Pod) -> tuple[str, str, str]:
    name, status = pod.metadata.name, pod.status
    if pod.is_stopped:
        return "", "", ""
    if status.reason == "Evicted":
        advice = next((advice for sign, advice in _EVICTED if sign in status.message), _RETRY)
        return f"Pod {name} was evicted by the kubelet (Evicted)", status.message, advice
    if status.reason:
        return f"Pod {name} was ended: {status.reason}", status.message, ""
    if condition := disruption_target(pod):
        what, advice = _DISRUPTED.get(condition.reason, (condition.message, _RETRY))
        return f"Pod {name} was ended ({condition.reason})", what, advice
    return "", "", ""


def disruption_target(pod: Pod) -> Condition | None:
    """Who is about to end a pod says so before, in this condition."""
    targets = (c for c in pod.status.conditions if c.type == "DisruptionTarget")
    return next((c for c in targets if c.status == "True"), None)


def _sentences(fact: str, *others: str) -> str:
    parts = [" ".join(part.split()).rstrip(".") for part in (fact, *others)]
    return " ".join(f"{part}." for part in parts if part)
