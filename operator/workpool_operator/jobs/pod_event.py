"""Makes the Prefect event of a pod's phase. Pure.

Automations match these events, so they are those of the stock worker's observer: names, labels,
related resources, times, and the id, by which Prefect knows a repeated event. Where that observer
is silent or wrong about a pod, docs/decisions/0072-pod-events.md says what is reported instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from slugify import slugify

from workpool_operator.jobs.disruption import disruption_reason
from workpool_operator.kube.models import ContainerStatus, Pod, Terminated
from workpool_operator.prefect_version import prefect_version

EVENT_PREFIX = "prefect.kubernetes.pod."
# An event names the one before it only if both are this close: Prefect's own `TIGHT_TIMING`.
FOLLOWS_WITHIN = timedelta(minutes=5)

# The waiting reasons that the stock worker diagnoses, and then those that it does not.
_DIAGNOSED = {
    "ErrImagePull": "ImagePullError",
    "ImagePullBackOff": "ImagePullError",
    "CrashLoopBackOff": "CrashLoopBackOff",
}
_DIAGNOSED_HERE = {
    "ErrImageNeverPull": "ImagePullError",
    "InvalidImageName": "InvalidImageName",
    "CreateContainerConfigError": "CreateContainerConfigError",
    "CreateContainerError": "CreateContainerError",
    "RunContainerError": "RunContainerError",
}
# How a container ended that never ran, or whose end is not known.
_ENDS_DIAGNOSED_HERE = frozenset({"ContainerCannotRun", "ContainerStatusUnknown", "StartError"})


@dataclass(frozen=True, slots=True)
class PodPhase:
    """What one event reports of a pod; `diagnosis` is "" if there is nothing to diagnose."""

    uid: str
    phase: str
    restarts: int
    diagnosis: str

    @property
    def event_id(self) -> UUID:
        """The id of the event, the same in every process."""
        identity = {
            "uid": self.uid,
            "phase": self.phase,
            "restart_count": self.restarts,
            "diagnosis": self.diagnosis or None,
        }
        return uuid5(NAMESPACE_URL, json.dumps(identity, sort_keys=True))


def read_phase(pod: Pod) -> PodPhase:
    """Return what an event would report of the pod now."""
    restarts = sum(status.restart_count for status in pod.status.container_statuses)
    phase = _phase(pod)
    return PodPhase(pod.metadata.uid, phase, restarts, _diagnose(pod, phase))


def _phase(pod: Pod) -> str:
    """Return the pod's phase; if the operator stopped the pod because its flow had ended, the one
    that the flow's end stands for. Kubernetes calls every such pod Failed."""
    end = pod.flow_status.state.terminated if pod.flow_status else None
    if pod.is_stopped and pod.ended and end and end.exit_code == 0:
        return "Succeeded"
    return pod.status.phase


def _diagnose(pod: Pod, phase: str) -> str:
    """Return the stock worker's diagnosis, in its order; where it has none, ours."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    waits = [status.state.waiting.reason for status in statuses if status.state.waiting]
    return (
        _first(_DIAGNOSED, waits)
        or next((end.reason for end in _ends(statuses) if end.reason in _KILLED), "")
        or _unschedulable(pod)
        or ("Evicted" if pod.status.reason == "Evicted" else "")
        or _first(_DIAGNOSED_HERE, waits)
        or (_failure(pod) if phase == "Failed" else "")
    )


_KILLED = frozenset({"OOMKilled", "Evicted"})


def _first(categories: Mapping[str, str], reasons: Iterable[str]) -> str:
    return next((categories[reason] for reason in reasons if reason in categories), "")


def _ends(statuses: Iterable[ContainerStatus]) -> Iterator[Terminated]:
    return (status.state.terminated for status in statuses if status.state.terminated)


def _unschedulable(pod: Pod) -> str:
    """Return the category of the scheduler's message, whose words Kubernetes may change."""
    for condition in pod.status.conditions:
        if (condition.type, condition.reason) == ("PodScheduled", "Unschedulable"):
            text = condition.message.lower()
            if "taint" in text:
                return "Unschedulable.Taint"
            if "affinity" in text or "node selector" in text:
                return "Unschedulable.NodeAffinity"
            if "insufficient" in text:
                return "Unschedulable.InsufficientResources"
            return "Unschedulable"
    return ""


def _failure(pod: Pod) -> str:
    """Return what ended the pod from outside, or why its container did not run; "" for an ordinary
    exit code."""
    if disrupted := disruption_reason(pod):
        return disrupted
    ends = (end.reason for end in _ends(pod.status.container_statuses))
    return next((reason for reason in ends if reason in _ENDS_DIAGNOSED_HERE), "")


def occurred(pod: Pod, phase: PodPhase) -> datetime | None:
    """Return when the pod entered the phase; None if Kubernetes does not say."""
    status = pod.status
    if phase.phase == "Pending":
        return pod.metadata.creation_timestamp
    if phase.phase == "Running":
        running = (each.state.running for each in status.container_statuses)
        times = [each.started_at for each in running if each and each.started_at]
        return max(times, default=status.start_time)
    if phase.phase in ("Succeeded", "Failed"):
        ends = _ends((*status.init_container_statuses, *status.container_statuses))
        return max((end.finished_at for end in ends if end.finished_at), default=None)
    return None


def pod_event(
    pod: Pod, phase: PodPhase, *, at: datetime, follows: UUID | None, worker_type: str
) -> dict[str, Any]:
    """Return the event, as `POST /events` takes it. `follows` is the id of the pod's event before
    it, `worker_type` the type of the worker that created the pod."""
    reason = _reason(pod) if phase.phase == "Failed" else ""
    resource = {
        "prefect.resource.id": f"{EVENT_PREFIX}{phase.uid}",
        "prefect.resource.name": pod.metadata.name,
        "kubernetes.namespace": pod.metadata.namespace,
    }
    if phase.diagnosis:
        resource["kubernetes.diagnosis"] = phase.diagnosis
    if reason:
        resource["kubernetes.reason"] = reason
    event: dict[str, Any] = {
        "id": str(phase.event_id),
        "event": f"{EVENT_PREFIX}{'evicted' if reason else phase.phase.lower()}",
        "occurred": at.isoformat(),
        "resource": resource,
        "related": list(_related(pod, worker_type)),
        "payload": {},
    }
    return event | ({"follows": str(follows)} if follows else {})


def _reason(pod: Pod) -> str:
    """Return why the containers of a failed pod ended, the flow's first; the kubelet's word if it
    evicted the pod before any ran; "" if neither is known.

    The stock worker calls a failed pod `evicted` if a container has such a reason, also if it is
    just "Error".
    """
    flow = [pod.flow_status] if pod.flow_status else []
    ends = _ends((*flow, *pod.status.container_statuses))
    evicted = pod.status.reason if pod.status.reason == "Evicted" else ""
    return next((end.reason for end in ends if end.reason), evicted)


def _related(pod: Pod, worker_type: str) -> Iterator[dict[str, str]]:
    """Yield what the event concerns, by the labels of the pod: they outlive every process."""
    labels = pod.prefect_labels
    yield _resource("flow-run", pod.run_id, labels.get("prefect.io/flow-run-name"))
    for role in ("deployment", "flow", "work-pool"):
        if id_ := labels.get(f"prefect.io/{role}-id"):
            yield _resource(role, id_, labels.get(f"prefect.io/{role}-name"))
    if worker := labels.get("prefect.io/worker-name"):
        yield {
            **_resource("worker", f"{worker_type}.{_slug(worker)}", worker),
            "prefect.worker-type": worker_type,
            "prefect.version": prefect_version(),
        }


def _resource(role: str, id_: str, name: str | None) -> dict[str, str]:
    resource = {"prefect.resource.id": f"prefect.{role}.{id_}", "prefect.resource.role": role}
    return resource | ({"prefect.resource.name": name} if name else {})


@lru_cache
def _slug(worker: str) -> str:
    return slugify(worker)
