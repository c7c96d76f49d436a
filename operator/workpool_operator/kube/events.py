"""Builds the Kubernetes Events that the operator writes on its own objects. No I/O."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from workpool_operator.kube.models import Job, Metadata

COMPONENT = "workpool-operator"
MESSAGE_LENGTH = 1024  # the limit of the API server


def job_warning(
    job: Job, *, reason: str, message: str, about: Metadata, now: datetime
) -> dict[str, Any]:
    """Return a warning on a Job about one of its pods. Its name is derived from pod and reason, so
    that the API server refuses a second one (409)."""
    when = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    suffix = hashlib.sha256(f"{about.uid}/{reason}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{job.name}.{suffix}", "namespace": job.metadata.namespace},
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
