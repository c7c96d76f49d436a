"""Builds the Kubernetes Events that the operator writes on its own objects. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from workpool_operator.kube.models import Job, Metadata

COMPONENT = "workpool-operator"
# On a binding
CLAIM_REFUSED = "ClaimRefused"  # the run is put off until a time that only the operator knows
RUN_WITHOUT_JOB = "RunWithoutJob"  # it ended because no Job could be created for it
# On a Job
RUN_CRASHED = "RunCrashed"
RUN_ENDED = "RunEnded"  # not by the Job: it is cancelled, was rescheduled or is gone
MESSAGE_LENGTH = 1024  # bytes, the limit of the API server


def event(
    about: Mapping[str, str], *, type_: str, reason: str, message: str, now: datetime
) -> dict[str, Any]:
    """Return an Event on the object that `about` refers to, in the object's namespace. `type_` is
    Normal or Warning."""
    when = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{COMPONENT}-", "namespace": about["namespace"]},
        "involvedObject": dict(about),
        "type": type_,
        "reason": reason,
        "message": message.encode()[:MESSAGE_LENGTH].decode(errors="ignore"),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "action": reason,
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }


def job_reference(job: Job) -> dict[str, str]:
    """Return how Events refer to the Job."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "namespace": job.metadata.namespace,
        "name": job.name,
        "uid": job.metadata.uid,
    }


def job_warning(
    job: Job, *, reason: str, message: str, about: Metadata, now: datetime
) -> dict[str, Any]:
    """Return a warning on a Job about one of its pods. Its name is derived from pod and reason, so
    that the API server refuses a second one (409)."""
    suffix = hashlib.sha256(f"{about.uid}/{reason}".encode()).hexdigest()[:16]
    text = f"Pod {about.name}: {message}"
    made = event(job_reference(job), type_="Warning", reason=reason, message=text, now=now)
    name = {"name": f"{job.name}.{suffix}", "namespace": job.metadata.namespace}
    return {**made, "metadata": name}
