"""Stands for the Job controller and the kubelet: Jobs that are `managedBy` the tests, and their
pods, which no node runs."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.support.kube import Kube, Object

#: Fields of a Job's spec with which no controller creates pods for it.
MANAGED_BY: Object = {"suspend": False, "managedBy": "workpool-operator.dev/tests"}
POD_CONDITIONS = (
    "PodScheduled",
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
)


async def create_pod(kube: Kube, job: Object, spec: Object) -> None:
    """Create a running pod for the Job with this metadata; `spec` is that of its template."""
    namespace, name = job["namespace"], f"{job['name']}-pod"
    metadata = {
        "name": name,
        "labels": job["labels"] | {"batch.kubernetes.io/job-name": job["name"]},
        "annotations": job["annotations"],
    }
    pod = {"metadata": metadata, "spec": spec | {"schedulerName": "none"}}
    await kube.create("pods", namespace, pod)
    await kube.patch("pods", namespace, name, {"status": _running(spec)}, subresource="status")


async def complete(kube: Kube, job: Object) -> None:
    """Set the status of the Job with this metadata to Complete."""
    now = _now()
    times = {"lastTransitionTime": now, "lastProbeTime": now, "status": "True"}
    conditions = [{"type": type_, **times} for type_ in ("SuccessCriteriaMet", "Complete")]
    status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}
    await kube.patch(
        "jobs", job["namespace"], job["name"], {"status": status}, subresource="status"
    )


def _running(spec: Object) -> Object:
    now = _now()
    times = {"status": "True", "lastTransitionTime": now}
    return {
        "phase": "Running",
        "startTime": now,
        "conditions": [{"type": type_, **times} for type_ in POD_CONDITIONS],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": container["image"],
                "containerID": "containerd://" + 64 * "0",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for container in spec["containers"]
        ],
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
