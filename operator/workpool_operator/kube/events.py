"""Kubernetes Events as the operator writes them on the objects that it made. No I/O."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from workpool_operator.kube.models import Job, Metadata

COMPONENT = "workpool-operator"
MESSAGE_LENGTH = 1024  # the API server takes no longer one


def job_warning(
    job: Job, *, reason: str, message: str, about: Metadata, now: datetime
) -> dict[str, Any]:
    """A warning on a Job about one of its pods, under a name that is the same for the same reason:
    a second one is refused as there already (409)."""
    when = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = hashlib.sha256(f"{about.uid}/{reason}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{job.name}.{told}", "namespace": job.metadata.namespace},
        "involvedObject": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "namespace": job.metadata.namespace,
            "name": job.name,
            "uid": job.metadata.uid,
        },
        "type": "Warning",
        "reason": reason,
        "message": f"Pod {about.name}: {message}"[:MESSAGE_LENGTH],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }
