"""The reasons why runs wait and end, as a closed list: what counts by reason needs one. Pure.

Most are words of Kubernetes, which has more of them, and a webhook or a scheduler can add its own.
"""

from __future__ import annotations

from collections.abc import Mapping

OTHER = "Other"

#: Why a claimed run's flow has not started, and what it means.
WAITING: Mapping[str, str] = {
    "Creating": "the Job or its pod is being created",
    "Starting": "the pod exists, and nothing keeps it from starting",
    "Unschedulable": "no node can run the pod",
    "ImagePullBackOff": "the image cannot be pulled",
    "InvalidImageName": "the image's name is invalid",
    "CreateContainerConfigError": "a Secret or ConfigMap of the pod is missing, or a key in it",
    "CreateContainerError": "the container runtime cannot create a container",
    "RunContainerError": "the container runtime cannot start a container",
    "CrashLoopBackOff": "an init container or sidecar fails again and again",
    "Initializing": "an init container is running",
    "SidecarNotStarted": "a native sidecar does not become ready",
    "JobSuspended": "a queue, such as Kueue, or a person suspends the Job",
    "JobResumed": "the Job was resumed, and its pod has not started",
    "FailedCreate": "the Job controller cannot create the pod",
    "FailedMount": "a volume cannot be mounted",
    "FailedAttachVolume": "a volume cannot be attached to the node",
    "FailedCreatePodSandBox": "the node cannot set up the pod's network or sandbox",
    "FailedScheduling": "the scheduler cannot place the pod",
    "QuotaExceeded": "a ResourceQuota of the namespace is exhausted",
    "JobRefused": "a webhook or policy refuses the Job for now, or the namespace does not admit it",
    "KubernetesUnavailable": "the Kubernetes API does not accept the Job",
    OTHER: "any other reason; the run's state in Prefect has it",
}

#: Why the operator reported a run as Crashed, and what it means. A run that never started has one
#: of WAITING.
CRASHED: Mapping[str, str] = {
    "Error": "the flow's container failed without a report of the run",
    "OOMKilled": "the container used more memory than its limit",
    "Unreported": "the container ended with exit code 0, and the run reported no end",
    "DeadlineExceeded": "the Job or pod exceeded its activeDeadlineSeconds",
    "ContainerStatusUnknown": "the kubelet lost the container",
    "ContainerCannotRun": "the container's command cannot be run",
    "StartError": "the container could not be started",
    "BackoffLimitExceeded": "the Job failed, and its pods are gone",
    "PodFailurePolicy": "the Job's podFailurePolicy failed it",
    "Evicted": "the kubelet evicted the pod",
    "PreemptionByScheduler": "the scheduler preempted the pod",
    "DeletionByTaintManager": "the pod does not tolerate a taint of its node",
    "EvictionByEvictionAPI": "the pod was evicted by the API, as by a drain",
    "DeletionByPodGC": "the pod's node no longer exists",
    "TerminationByKubelet": "the kubelet ended the pod, as at a shutdown of the node",
    "Terminated": "the node was shut down",
    "NodeLost": "the node does not respond, and the pod could not be ended",
    "OutOfcpu": "the node rejected the pod: too little CPU is left",
    "OutOfmemory": "the node rejected the pod: too little memory is left",
    "OutOfpods": "the node rejected the pod: it has its most pods",
    "NodeAffinity": "the node rejected the pod: its labels no longer match",
    "UnexpectedAdmissionError": "the node rejected the pod",
    "PodDeleted": "somebody deleted the pod",
    "JobVanished": "somebody deleted the Job",
    "RenderingFailed": "the run's own values make no valid Job",
    "DeploymentNotFound": "the run's deployment was deleted; the run is Cancelled, not Crashed",
    "NotStarted": "the pod did not start in time, for no known reason",
}


def waiting(category: str) -> str:
    """Return the reason, "Other" if it is not listed."""
    return category if category in WAITING else OTHER


def crashed(reason: str) -> str:
    """Return the reason, "Other" if it is not listed."""
    return reason if reason in CRASHED or reason in WAITING else OTHER
