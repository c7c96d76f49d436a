"""Pods as the API server has them, and the events of their phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workpool_operator.kube import models

Object = dict[str, Any]

RUN_ID = UUID("11111111-1111-4111-8111-111111111111")
CREATED, STARTED, ENDED = "2026-01-01T12:00:00Z", "2026-01-01T12:00:03Z", "2026-01-01T12:00:09Z"
LABELS = {
    "prefect.io/flow-run-id": str(RUN_ID),  # the stock worker's; ours do not have it
    models.RUN_LABEL: str(RUN_ID),
    models.JOB_NAME_LABEL: "brave-lynx-0123456789ab",
    "prefect.io/flow-run-name": "brave-lynx",
    "prefect.io/deployment-id": "22222222-2222-4222-8222-222222222222",
    "prefect.io/deployment-name": "nightly",
    "prefect.io/flow-id": "33333333-3333-4333-8333-333333333333",
    "prefect.io/flow-name": "load",
    "prefect.io/work-pool-id": "44444444-4444-4444-8444-444444444444",
    "prefect.io/work-pool-name": "etl",
    "prefect.io/worker-name": "etl.data-0a1b2c3d",
}


def waiting(reason: str, name: str = "prefect-job", *, restarts: int = 0) -> Object:
    return {"name": name, "restartCount": restarts, "state": {"waiting": {"reason": reason}}}


def running(name: str = "prefect-job", *, at: str = STARTED, restarts: int = 0) -> Object:
    return {"name": name, "restartCount": restarts, "state": {"running": {"startedAt": at}}}


def ended(
    code: int, reason: str = "", name: str = "prefect-job", *, at: str = ENDED, restarts: int = 0
) -> Object:
    end = {"exitCode": code, "startedAt": STARTED, "finishedAt": at}
    terminated = end | ({"reason": reason} if reason else {})
    return {"name": name, "restartCount": restarts, "state": {"terminated": terminated}}


def unschedulable(message: str) -> Object:
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": f"0/1 nodes are available: {message}",
    }


def disrupted(reason: str) -> Object:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason}


def pod(
    phase: str,
    *statuses: Object,
    init: Sequence[Object] = (),
    conditions: Sequence[Object] = (),
    reason: str = "",
    spec: Mapping[str, Any] | None = None,
    uid: str = "55555555-5555-4555-8555-555555555555",
    labels: Mapping[str, str] = LABELS,
) -> Object:
    """A pod, whose spec has the containers of its statuses; the flow's is `prefect-job`."""
    status: Object = {"phase": phase, "conditions": list(conditions), "startTime": CREATED}
    if reason:
        status["reason"] = reason
    if statuses:
        status["containerStatuses"] = list(statuses)
    if init:
        status["initContainerStatuses"] = list(init)
    return {
        "metadata": {
            "name": "brave-lynx-0123456789ab-x7f2k",
            "namespace": "data",
            "uid": uid,
            "creationTimestamp": CREATED,
            "labels": dict(labels),
        },
        "spec": {
            "containers": [{"name": each["name"]} for each in statuses],
            "initContainers": [{"name": each["name"]} for each in init],
            **(spec or {}),
        },
        "status": status,
    }


@dataclass(frozen=True)
class Case:
    """A pod and its event: the name after the prefix, diagnosis and reason. `stock` is what the
    stock worker sends instead, if not the same."""

    name: str
    pod: Object
    event: str
    diagnosis: str = ""
    reason: str = ""
    stock: tuple[str, str, str] | None = None


STOPPED = {"activeDeadlineSeconds": models.STOP_DEADLINE_SECONDS}

CASES: list[Case] = [
    # Phases
    Case("created", pod("Pending"), "pending"),
    Case("pulling", pod("Pending", waiting("ContainerCreating")), "pending"),
    Case(
        "initializing", pod("Pending", waiting("PodInitializing"), init=[running("i")]), "pending"
    ),
    Case("running", pod("Running", running()), "running"),
    Case("running, without a status", pod("Running"), "running"),
    Case(
        "running, next to a later sidecar",
        pod("Running", running(), running("mesh", at=ENDED)),
        "running",
    ),
    Case("restarted", pod("Running", running(restarts=2)), "running"),
    Case("between two restarts", pod("Running", ended(1, "Error", restarts=1)), "running"),
    Case("completed", pod("Succeeded", ended(0, "Completed")), "succeeded"),
    Case(
        "completed after an init container",
        pod("Succeeded", ended(0, "Completed"), init=[ended(0, "Completed", "i", at=STARTED)]),
        "succeeded",
    ),
    Case("unknown", pod("Unknown", running()), "unknown"),
    # Waits that the stock worker diagnoses
    *(
        Case(f"waits: {reason}", pod("Pending", waiting(reason)), "pending", "ImagePullError")
        for reason in ("ErrImagePull", "ImagePullBackOff")
    ),
    Case(
        "an init container's image cannot be pulled",
        pod("Pending", waiting("PodInitializing"), init=[waiting("ErrImagePull", "i")]),
        "pending",
        "ImagePullError",
    ),
    Case(
        "a sidecar's image cannot be pulled",
        pod("Running", running(), waiting("ImagePullBackOff", "mesh")),
        "running",
        "ImagePullError",
    ),
    Case(
        "crashes again and again",
        pod("Running", waiting("CrashLoopBackOff", restarts=3)),
        "running",
        "CrashLoopBackOff",
    ),
    Case(
        "no taint is tolerated",
        pod("Pending", conditions=[unschedulable("1 node(s) had untolerated taint {a: b}.")]),
        "pending",
        "Unschedulable.Taint",
    ),
    Case(
        "no node matches",
        pod("Pending", conditions=[unschedulable("1 node(s) didn't match node affinity.")]),
        "pending",
        "Unschedulable.NodeAffinity",
    ),
    Case(
        "no node is large enough",
        pod("Pending", conditions=[unschedulable("1 Insufficient cpu.")]),
        "pending",
        "Unschedulable.InsufficientResources",
    ),
    Case(
        "no node, for another reason",
        pod("Pending", conditions=[unschedulable("1 node(s) didn't match spread constraints.")]),
        "pending",
        "Unschedulable",
    ),
    # Ends: every failed pod with a reason of a container is called evicted
    Case("exit code 1", pod("Failed", ended(1, "Error")), "evicted", "", "Error"),
    Case("no reason", pod("Failed", ended(1)), "failed"),
    Case(
        "out of memory",
        pod("Failed", ended(137, "OOMKilled")),
        "evicted",
        "OOMKilled",
        "OOMKilled",
    ),
    Case(
        "evicted while it ran",
        pod("Failed", ended(137, "Error"), reason="Evicted"),
        "evicted",
        "Evicted",
        "Error",
    ),
    Case(
        "an init container failed",
        pod("Failed", waiting("PodInitializing"), init=[ended(1, "Error", "i")]),
        "failed",
    ),
    # Where the stock worker is silent or wrong
    Case(
        "evicted before it ran",
        pod("Failed", reason="Evicted"),
        "evicted",
        "Evicted",
        "Evicted",
        stock=("failed", "Evicted", ""),
    ),
    Case(
        "the flow failed, a sidecar before it in the list did not",
        pod("Failed", ended(0, "Completed", "mesh"), ended(137, "OOMKilled")),
        "evicted",
        "OOMKilled",
        "OOMKilled",
        stock=("evicted", "OOMKilled", "Completed"),
    ),
    Case(
        "stopped after its flow had completed next to a sidecar",
        pod(
            "Failed",
            ended(0, "Completed"),
            ended(137, "Error", "mesh"),
            reason="DeadlineExceeded",
            spec=STOPPED,
        ),
        "succeeded",
        stock=("evicted", "", "Completed"),
    ),
    Case(
        "stopped after its flow had failed next to a sidecar",
        pod(
            "Failed",
            ended(7, "Error"),
            ended(137, "Error", "mesh"),
            reason="DeadlineExceeded",
            spec=STOPPED,
        ),
        "evicted",
        "",
        "Error",
    ),
    Case(
        "an image that is never pulled is missing",
        pod("Pending", waiting("ErrImageNeverPull")),
        "pending",
        "ImagePullError",
        stock=("pending", "", ""),
    ),
    *(
        Case(
            f"waits: {reason}",
            pod("Pending", waiting(reason)),
            "pending",
            reason,
            stock=("pending", "", ""),
        )
        for reason in (
            "InvalidImageName",
            "CreateContainerConfigError",
            "CreateContainerError",
            "RunContainerError",
        )
    ),
    *(
        Case(
            f"ended: {reason}",
            pod("Failed", ended(128, reason)),
            "evicted",
            reason,
            reason,
            stock=("evicted", "", reason),
        )
        for reason in ("StartError", "ContainerCannotRun", "ContainerStatusUnknown")
    ),
    Case(
        "preempted",
        pod("Failed", ended(143, "Error"), conditions=[disrupted("PreemptionByScheduler")]),
        "evicted",
        "PreemptionByScheduler",
        "Error",
        stock=("evicted", "", "Error"),
    ),
    Case(
        "rejected by its node",
        pod("Failed", reason="OutOfcpu"),
        "failed",
        "OutOfcpu",
        stock=("failed", "", ""),
    ),
    Case(
        "too long",
        pod("Failed", ended(143, "Error"), reason="DeadlineExceeded"),
        "evicted",
        "DeadlineExceeded",
        "Error",
        stock=("evicted", "", "Error"),
    ),
    Case(
        "drained, and it ended well nevertheless",
        pod("Succeeded", ended(0, "Completed"), conditions=[disrupted("EvictionByEvictionAPI")]),
        "succeeded",
    ),
]
