"""What a Job and its pods mean for a person: why a run waits, how it ended, and what to do. Pure.

Every text names the fact (reason, exit code, limit) before the advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from workpool_operator.kube.views import ContainerStatus, Event, Job, Pod, Terminated

MESSAGE_LENGTH = 4000
OUTAGE = "KubernetesUnavailable"  # a wait that ends no run, however long it takes

# Reasons under which a container waits for something that somebody has to mend, by the category
# that names the sub-state. Kubernetes flaps between some of them; a category does not.
_WAITING = {
    "ErrImagePull": "ImagePullBackOff",
    "ImagePullBackOff": "ImagePullBackOff",
    "ErrImageNeverPull": "ImagePullBackOff",
    "InvalidImageName": "InvalidImageName",
    "CreateContainerConfigError": "CreateContainerConfigError",
    "CreateContainerError": "CreateContainerError",
    "RunContainerError": "RunContainerError",
    "CrashLoopBackOff": "CrashLoopBackOff",
}
_HOPELESS = frozenset({"InvalidImageName"})

_REMEDIES = {
    "ImagePullBackOff": "Check the image's name and tag, and the pull secret of the namespace.",
    "InvalidImageName": "Correct the image in the deployment's job variables or the template.",
    "CreateContainerConfigError": "Create the Secret or ConfigMap that it names, or correct it.",
    "Unschedulable": "Lower the resource requests, or add a node that fits.",
    "FailedCreate": "Correct what the message names; the Job tries again by itself.",
}

_EXIT_CODES = {
    1: "The process failed before or outside the flow; its log says why.",
    125: "The container could not be started; check the image and the command.",
    126: "The command is not executable; check the command and the image's permissions.",
    127: "The command was not found; check the command and that Prefect is in the image.",
    128: "The container could not be started; check the command.",
    137: "The process was killed (SIGKILL), most often for want of memory.",
    143: "The process was asked to stop (SIGTERM), as on a drained or preempted node.",
}


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a run does not start: `category` names the sub-state, `message` explains it.

    `hopeless` marks a wait that nothing in the cluster can end.
    """

    category: str
    message: str
    hopeless: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """How a Job ended without its run: `message` is the crash's, `exit_code` the container's."""

    message: str
    exit_code: int | None = None


def waiting(pods: Sequence[Pod]) -> Wait | None:
    """The first reason, if any, that one of the pods waits for somebody."""
    for pod in pods:
        if pod.ended or pod.started:
            continue
        if found := _container_waits(pod) or _unschedulable(pod):
            return found
    return None


def refused(events: Iterable[Event], *, what: str) -> Wait | None:
    """What the newest warnings about a Job without pods, or a pod without containers, say."""
    warnings = [event for event in events if event.type == "Warning" and event.message]
    if not warnings:
        return None
    last = warnings[-1]
    return _wait(last.reason, f"{what}: {last.message} ({last.reason}).")


def ended(job: Job, pods: Sequence[Pod]) -> End:
    """Why a Job that ended left its run unfinished."""
    if job.exceeded_deadline:
        return End(
            f"The Job ran longer than its activeDeadlineSeconds of "
            f"{job.spec.active_deadline_seconds} s and was stopped (DeadlineExceeded). "
            "Raise the limit in the pool's template, or make the flow faster."
        )
    if found := _last_failure(pods):
        return _container_end(*found)
    if pod := next((pod for pod in pods if pod.status.reason), None):
        return End(
            f"Pod {pod.metadata.name} ended: {pod.status.reason}. {pod.status.message}".strip()
        )
    if failed := job.condition("Failed"):
        return End(f"The Job failed: {failed.reason}. {failed.message}".strip())
    return End(
        "The container exited with code 0 without reporting the run's end. The command must be "
        "`prefect flow-run execute`, or end by it.",
        exit_code=0,
    )


def out_of_memory(pods: Sequence[Pod]) -> str:
    """The fact behind a SIGKILL, which the run's own report can only guess; "" where it is none."""
    found = _last_failure(pods)
    return _container_end(*found).message if found and found[2].reason == "OOMKilled" else ""


def vanished(job_name: str, pods: Sequence[Pod]) -> End:
    """The Job is gone from the cluster and its run is not finished."""
    found = _last_failure(pods)
    told = found is not None and not _is_a_stop(found[2])
    cause = f" Last seen: {_container_end(*found).message}" if found and told else ""
    return End(
        f"Job {job_name} vanished: it was deleted by somebody else than the operator while the run "
        f"was not finished.{cause} Retry the run, and keep whoever cleans up there from Jobs that "
        "have not ended."
    )


def never_started(wait: Wait | None, *, seconds: int) -> End:
    """The pending time-out ended a wait."""
    why = f"{wait.category}: {wait.message}" if wait else "its pod never started a container."
    return End(f"Not started within pendingTimeoutSeconds ({seconds} s). {why}")


def with_logs(end: End, log: str) -> str:
    """The crash's message with the container's last lines, within the length that Prefect keeps."""
    heading = "\n\nLast log lines:\n"
    room = MESSAGE_LENGTH - len(end.message) - len(heading)
    lines = log.strip()
    if not lines or room <= 0:
        return end.message[:MESSAGE_LENGTH]
    return f"{end.message}{heading}{lines[-room:]}"


def _container_waits(pod: Pod) -> Wait | None:
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        state = status.state.waiting
        if state and state.reason in _WAITING:
            image = next((c.image for c in pod.spec.containers if c.name == status.name), "")
            about = f" (image {image})" if "Image" in state.reason and image else ""
            text = f"container '{status.name}'{about}: {state.message or state.reason}"
            return _wait(_WAITING[state.reason], text)
    return None


def _unschedulable(pod: Pod) -> Wait | None:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            return _wait("Unschedulable", f"no node takes the pod: {condition.message}")
    return None


def _wait(category: str, text: str) -> Wait:
    remedy = _REMEDIES.get(category, "")
    message = f"{text.rstrip('. ')}. {remedy}".strip()
    return Wait(category, message[:MESSAGE_LENGTH], hopeless=category in _HOPELESS)


def _last_failure(pods: Sequence[Pod]) -> tuple[Pod, ContainerStatus, Terminated] | None:
    """The container that failed last; a pod's init containers fail before its main ones."""
    found = [
        (pod, status, terminated)
        for pod in pods
        for status in (*pod.status.container_statuses, *pod.status.init_container_statuses)
        for terminated in (status.state.terminated or status.last_state.terminated,)
        if terminated and (terminated.exit_code != 0 or terminated.reason == "OOMKilled")
    ]
    return max(found, key=lambda item: item[2].finished_at or _EPOCH, default=None)


_EPOCH = datetime.fromtimestamp(0, UTC)


def _container_end(pod: Pod, status: ContainerStatus, terminated: Terminated) -> End:
    code = terminated.exit_code
    if terminated.reason == "OOMKilled":
        limit = _memory_limit(pod, status.name)
        killed = "Container" if code else "A process of container"  # whose parent lived on
        text = (
            f"{killed} '{status.name}' was killed for using more memory than its limit"
            f"{f' of {limit}' if limit else ''} (OOMKilled, exit code {code}). Raise the limit."
        )
        return End(text, exit_code=code)
    reason = f" ({terminated.reason})" if terminated.reason else ""
    detail = f" {terminated.message.strip().rstrip('.')}." if terminated.message else ""
    remedy = _EXIT_CODES.get(code, "")
    text = f"Container '{status.name}' exited with code {code}{reason}.{detail} {remedy}".strip()
    if pod.status.reason:
        text = f"Pod was ended: {pod.status.reason}. {pod.status.message} {text}".strip()
    return End(text, exit_code=code)


def _is_a_stop(terminated: Terminated) -> bool:
    """What the deletion of a pod itself brings about: no cause of anything."""
    return terminated.exit_code in (137, 143) and terminated.reason != "OOMKilled"


def _memory_limit(pod: Pod, container: str) -> str:
    limits = (c.resources.limits for c in pod.spec.containers if c.name == container)
    return next(limits, {}).get("memory", "")
