"""Explains a Job and its pods to a person: why a run waits, how it ended, what to do. Pure.

Every text gives the fact (reason, exit code, limit) before the advice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from workpool_operator.jobs.disruption import (
    disruption_reason,
    disruption_target,
    explain_disruption,
)
from workpool_operator.kube.models import (
    LIMIT_RANGE_ANNOTATION,
    ContainerSpec,
    ContainerStatus,
    Event,
    Job,
    Pod,
    Terminated,
)

MESSAGE_LENGTH = 4000
SUSPENDED = "JobSuspended"
RESUMED = "JobResumed"
INFRASTRUCTURE_RETRY = "InfrastructureRetry"
INITIALIZING = "Initializing"
UNREPORTED = "Unreported"  # the reason of an end with exit code 0 of which the run reported none
OUTAGE = "KubernetesUnavailable"  # a wait that never ends a run, however long it takes

# The waiting reasons of a container that need a fix, and the category that names the sub-state.
# Kubernetes flaps between some of the reasons; the category does not.
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
_REPORT_AFTER_SECONDS = 15.0  # an init container that is faster is not reported
_PERMANENT = frozenset({"InvalidImageName"})

_REMEDIES = {
    "ImagePullBackOff": "Check the image's name and tag, and the pull secret of the namespace.",
    "InvalidImageName": "Correct the image in the deployment's job variables or the template.",
    "CreateContainerConfigError": (
        "Create the missing Secret, ConfigMap or key, or correct its name where it is written: in "
        "the work pool's base job template, or in spec.jobs of the binding."
    ),
    "Unschedulable": "Lower the resource requests, or add a node that fits.",
    INITIALIZING: (
        "This time does not count towards pendingTimeoutSeconds. To end an init container that "
        "hangs, set activeDeadlineSeconds."
    ),
    "SidecarNotStarted": "Check the sidecar's log, then correct its probe or remove the sidecar.",
    "FailedCreate": "Fix the cause; Kubernetes tries again by itself.",
}

_EXIT_CODES = {
    1: "The process failed before or outside the flow; see its log.",
    125: "The container could not be started; check the image and the command.",
    126: "The command is not executable; check the command and the image's permissions.",
    127: "The command was not found; check the command and that Prefect is in the image.",
    128: "The container could not be started; check the command.",
    137: "The process was killed (SIGKILL), most often because it ran out of memory.",
    143: "The process was terminated (SIGTERM), for example because its node was drained.",
}


@dataclass(frozen=True, slots=True)
class WaitReason:
    """Why a flow does not start: `category` names the sub-state, `message` explains it.

    `is_permanent` marks a wait that no change in the cluster can end. `container` names the
    container whose log has more about it, if there is one. `quota` is the exhausted quota with its
    figures, if that is the reason.
    """

    category: str
    message: str
    is_permanent: bool = False
    container: str = ""
    quota: str = ""

    @property
    def level(self) -> int:
        """The level of its log line: INFO for work and for a place in a queue, else WARNING."""
        expected = (INITIALIZING, SUSPENDED, RESUMED)
        return logging.INFO if self.category in expected else logging.WARNING


@dataclass(frozen=True, slots=True)
class Termination:
    """How a Job ended that left its run unfinished.

    `message` becomes the Crashed state's, `reason` is its cause in one CamelCase word, Kubernetes'
    own if it has one. `exit_code` is the container's. `pod` and `container` name the container
    whose log has more about it; they are empty if there is none.
    """

    message: str
    reason: str
    exit_code: int | None = None
    pod: str = ""
    container: str = ""


def wait_reason(pod: Pod | None, now: datetime) -> WaitReason | None:
    """Return why the pod has not started the flow's container; None if no reason is known."""
    if pod is None or pod.ended or pod.started:
        return None
    return _container_waits(pod) or _initializing(pod, now) or _unschedulable(pod)


def is_initializing(pod: Pod) -> bool:
    """Return whether an ordinary init container is running: the pod works, it does not wait."""
    return any(status.state.running for status in pod.init_statuses)


def initializing_seconds(pod: Pod, now: datetime) -> float:
    """Return for how many seconds ordinary init containers have been running in total."""
    return sum((_run_time(status, now) for status in pod.init_statuses), 0.0)


def suspended(job: Job, workload: str = "") -> WaitReason:
    """Explain what a suspended Job waits for; `workload` is Kueue's own explanation."""
    kubectl = f"kubectl -n {job.metadata.namespace}"
    if job.queue:
        why = f"{workload}." if workload else f"`{kubectl} describe workloads` shows the reason."
        text = f"The Job is suspended until Kueue admits it to queue '{job.queue}': {why}"
        return WaitReason(SUSPENDED, f"{text} Time-outs are paused."[:MESSAGE_LENGTH])
    resume = f"""{kubectl} patch job {job.name} --type=merge -p '{{"spec":{{"suspend":false}}}}'"""
    return WaitReason(
        SUSPENDED, f"The Job is suspended and time-outs are paused. To resume it: {resume}"
    )


def resumed(job: Job) -> WaitReason:
    """Report that a suspended Job was resumed."""
    return WaitReason(RESUMED, f"Job {job.name} was resumed; its pod starts now.")


def keeps_place_in_queue(job: Job) -> str:
    """Explain that a run that starts again keeps its suspended Job, for its place in a queue."""
    return (
        f"Job {job.name} is suspended{_by_kueue(job)}. The run starts again when this Job is "
        "resumed, or in a new Job if this one is deleted."
    )


def suspended_while_running(job: Job) -> WaitReason:
    """Explain that a Job was suspended while its flow ran, and when the run starts again."""
    text = (
        f"Job {job.name} was suspended{_by_kueue(job)} while the flow was running, and its pod was "
        "terminated. The run starts again when the Job is resumed."
    )
    return WaitReason("AwaitingRetry", text)


def no_pods_reason(events: Iterable[Event], *, what: str) -> WaitReason | None:
    """Return the newest warning about a Job without pods, or a pod without containers, if any."""
    warnings = [event for event in events if event.type == "Warning" and event.message]
    if not warnings:
        return None
    last = warnings[-1]
    wait = _wait(last.reason, f"{what}: {last.message} ({last.reason}).")
    return replace(wait, quota=exceeded_quota(last.message))


def exceeded_quota(refusal: str) -> str:
    """Return name and figures of the exhausted quota for which the API server refuses an object, as
    it says them; "" if a quota is not the reason."""
    return refusal.partition("exceeded quota: ")[2].strip().rstrip(".")


def how_to_free(quota: str) -> str:
    """Return what frees an exhausted quota, of which these are name and figures. A quota of a
    number of objects, `count/*`, also counts those that have ended."""
    if "count/" in quota:
        return "delete Jobs that have ended, which count until they are deleted, or raise it"
    return "raise it, or end other Jobs"


_NO_POD = (
    "Its pod was deleted before the operator could read the cause, for example by an eviction or a "
    "drain while no operator was running. `kubectl get events` in the Job's namespace may still "
    "show the cause. Part of the flow may have run: retry the run if it is safe to run twice."
)


def termination(job: Job, pods: Sequence[Pod]) -> Termination:
    """Explain how a Job ended that left its run unfinished."""
    if job.exceeded_deadline:
        return Termination(
            f"The Job ran longer than its activeDeadlineSeconds of "
            f"{job.spec.active_deadline_seconds} s and was stopped (DeadlineExceeded)."
            f"{_unfinished(pods)} Raise the limit in the pool's template, or make the flow faster.",
            "DeadlineExceeded",
        )
    if found := _last_end(pods):
        return _container_end(*found)
    if pod := next(filter(explain_disruption, _newest_first(pods)), None):
        return Termination(explain_disruption(pod), disruption_reason(pod))
    if failed := job.condition("Failed"):
        text = f"The Job failed: {failed.reason}. {failed.message}".strip()
        return Termination(text if pods else f"{text.rstrip('.')}. {_NO_POD}", failed.reason)
    return Termination(_UNREPORTED.format("The flow's container"), UNREPORTED, exit_code=0)


def _by_kueue(job: Job) -> str:
    return f" by Kueue (queue '{job.queue}')" if job.queue else ""


def retry_after_disruption(
    pods: Sequence[Pod], *, number: int, limit: int, delay: float
) -> WaitReason:
    """Explain that the run gets a new Job after `delay` seconds: the infrastructure ended its pod
    before the flow's container started."""
    text = (
        f"Infrastructure retry {number} of {limit}: the flow had not started. "
        f"{explain_disruption(newest(pods), advise=False)} "
        f"A new Job is created in {delay:.0f} s."
    )
    return WaitReason(INFRASTRUCTURE_RETRY, text[:MESSAGE_LENGTH])


def retries_exhausted(end: Termination, *, limit: int) -> Termination:
    """Return the end of a run that has used its infrastructure retries."""
    text = f"{end.message} No infrastructure retry is left (jobs.infrastructureRetries: {limit})."
    return Termination(text, end.reason, exit_code=end.exit_code)


def node_lost(pod: Pod) -> Termination:
    """Explain that a pod is being deleted and its node has not stopped it in time."""
    deadline, node = pod.metadata.deletion_timestamp, pod.spec.node_name
    until = f" by {deadline:%H:%M:%S} UTC" if deadline else ""
    reason = target.reason if (target := disruption_target(pod)) else "deleted"
    return Termination(
        f"Node {node} is lost: pod {pod.metadata.name} should have ended{until} ({reason}) and is "
        "still Terminating. The flow may still be running there. Retry the run when the node is "
        f"back, or after you shut the node down and delete it: kubectl delete node {node}",
        "NodeLost",
    )


def waits_for_lost_node(pod: Pod) -> str:
    """Explain that a run that starts again waits for a pod on a node that does not respond."""
    node = pod.spec.node_name
    return (
        f"The run waits for its previous pod {pod.metadata.name}, which may still be running on "
        f"node {node}: the node does not respond. The run continues when the node is back, or "
        f"after you shut the node down and delete it: kubectl delete node {node}"
    )


def flow_ended(pod: Pod) -> Termination | None:
    """Explain how the flow's container ended in a pod whose other containers may be running."""
    end = pod.flow_status.state.terminated if pod.flow_status else None
    return _container_end(pod, pod.flow_status, end) if pod.flow_status and end else None


def stopped_after_report(state: str, *, seconds: int) -> str:
    """Explain that the flow's container ran too long after its run had reported its end."""
    return (
        f"The flow's container was still running {seconds} s after its run had ended {state}, and "
        "was stopped. If hooks or uploads need more time, raise finishedGraceSeconds."
    )


def out_of_memory(pods: Sequence[Pod]) -> str:
    """Explain that the flow was killed for its memory; "" if it was not. The run's own report can
    only guess that."""
    found = _last_end(pods)
    return _container_end(*found).message if found and found[2].reason == "OOMKilled" else ""


def job_vanished(job_name: str, pods: Sequence[Pod]) -> Termination:
    """Explain that a Job was deleted, and not by the operator, before its run finished."""
    found = _last_end(pods)
    is_cause = found is not None and found[2].exit_code and not _is_from_deletion(found[2])
    cause = f" Last seen: {_container_end(*found).message}" if found and is_cause else ""
    return Termination(
        f"Job {job_name} vanished: it was deleted before the run finished, and not by the "
        f"operator.{cause} Retry the run, and make sure that no cleanup job deletes unfinished "
        "Jobs in this namespace.",
        "JobVanished",
    )


def never_started(wait: WaitReason | None, pod: Pod | None, *, seconds: float) -> Termination:
    """Explain that a run did not start within its pending time-out."""
    why = f"{wait.category}: {wait.message}" if wait else "No reason is known."
    what = f"Pod {pod.metadata.name} did not start the flow's container" if pod else "Not started"
    return Termination(
        f"{what} within pendingTimeoutSeconds ({seconds:.0f} s). {why}",
        wait.category if wait else "NotStarted",
        pod=pod.metadata.name if pod else "",
        container=wait.container if wait else "",
    )


#: The kubelet returns this as the log after the runtime has removed the container.
_NO_LOG = "unable to retrieve container logs for "


def with_logs(end: Termination, log: str) -> str:
    """Return the message with the container's last log lines, at most as long as Prefect stores."""
    heading = "\n\nLast log lines:\n"
    message, lines = _text(end.message), _text(log).strip()
    if lines.startswith(_NO_LOG):
        lines = ""
    room = MESSAGE_LENGTH - len(message) - len(heading)
    if not lines or room <= 0:
        return message[:MESSAGE_LENGTH]
    return f"{message}{heading}{lines[-room:]}"


def _text(given: str) -> str:
    """Drop characters that a database refuses, such as NUL: with them the run would never end."""
    return "".join(letter for letter in given if letter.isprintable() or letter in "\n\t")


def _container_waits(pod: Pod) -> WaitReason | None:
    """Check init containers first; a container next to the flow's does not block its start."""
    for status in (
        *pod.status.init_container_statuses,
        *((pod.flow_status,) if pod.flow_status else ()),
    ):
        state = status.state.waiting
        if state and state.reason in _WAITING:
            image = _spec_of(pod, status.name).image
            about = f" (image {image})" if "Image" in state.reason and image else ""
            text = f"Container '{status.name}'{about}: {state.message or state.reason}"
            has_run = status.name if status.has_run else ""
            return _wait(_WAITING[state.reason], text, container=has_run)
    return None


def _initializing(pod: Pod, now: datetime) -> WaitReason | None:
    """Report an init container that has been running for a while: the flow's waits for it."""
    for status in pod.status.init_container_statuses:
        seconds = _run_time(status, now)
        if not status.state.running or seconds < _REPORT_AFTER_SECONDS:
            continue
        runs = f"Container '{status.name}' has been running for {seconds:.0f} s"
        if status.name not in pod.sidecar_names:
            return _wait(INITIALIZING, runs)
        if not status.started:
            category = "CrashLoopBackOff" if status.restart_count else "SidecarNotStarted"
            probe = "its startup probe has not passed, or its postStart hook has not finished"
            return _wait(category, f"{runs}, but {probe}", container=status.name)
    return None


def _run_time(status: ContainerStatus, now: datetime) -> float:
    """Return the seconds from the container's start to its end, or to now."""
    running, end = status.state.running, status.state.terminated
    began = running.started_at if running else end.started_at if end else None
    over = now if running else end.finished_at if end else None
    return max(0.0, (over - began).total_seconds()) if began and over else 0.0


def _unschedulable(pod: Pod) -> WaitReason | None:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            return _wait("Unschedulable", f"No node can run the pod: {condition.message}")
    return None


def _wait(category: str, text: str, *, container: str = "") -> WaitReason:
    message = f"{text.rstrip('. ')}. {_REMEDIES.get(category, '')}".strip()[:MESSAGE_LENGTH]
    return WaitReason(category, message, is_permanent=category in _PERMANENT, container=container)


def _last_end(pods: Sequence[Pod]) -> tuple[Pod, ContainerStatus, Terminated] | None:
    """Return the container end that decided the newest pod in which one did: that of the flow's
    container, or of a failed init container. A sidecar's end decides nothing."""
    for pod in _newest_first(pods):
        ends = [
            (pod, status, end)
            for status in (*((pod.flow_status,) if pod.flow_status else ()), *pod.init_statuses)
            if (end := status.state.terminated or status.last_state.terminated)
        ]
        failed = [each for each in ends if each[1] is pod.flow_status or each[2].exit_code]
        known = [each for each in failed if each[2].reason != _UNKNOWN]
        if found := next(iter(known or failed), None):
            return found
    return None


def _unfinished(pods: Sequence[Pod]) -> str:
    """Name the init containers that had not finished in a pod that never started the flow."""
    if not pods or (pod := newest(pods)).started:
        return ""
    ends = {status.name: status.state.terminated for status in pod.init_statuses if status.has_run}
    found = (name for name, end in ends.items() if end is None or end.exit_code)
    return "".join(f" Its init container '{name}' had not finished." for name in found)


def newest(pods: Iterable[Pod]) -> Pod:
    """Return the pod that was created last; there must be at least one."""
    return _newest_first(pods)[0]


def _newest_first(pods: Iterable[Pod]) -> list[Pod]:
    return sorted(pods, key=lambda pod: pod.metadata.creation_timestamp or _EPOCH, reverse=True)


_EPOCH = datetime.fromtimestamp(0, UTC)
_UNKNOWN = "ContainerStatusUnknown"
_UNREPORTED = (
    "{} exited with code 0 without reporting the run's end. The command must be "
    "`prefect flow-run execute`, or end with it."
)


def _container_end(pod: Pod, status: ContainerStatus, terminated: Terminated) -> Termination:
    return Termination(
        _sentence(pod, status, terminated),
        _end_reason(pod, terminated),
        exit_code=terminated.exit_code,
        pod=pod.metadata.name,
        container=status.name,
    )


def _end_reason(pod: Pod, terminated: Terminated) -> str:
    if terminated.reason == "OOMKilled":
        return "OOMKilled"
    if disrupted := disruption_reason(pod):
        return disrupted
    if terminated.exit_code == 0:
        return UNREPORTED
    if pod.deleting and _is_from_deletion(terminated):
        return "PodDeleted"
    return terminated.reason or "Error"


def _sentence(pod: Pod, status: ContainerStatus, terminated: Terminated) -> str:
    code, name = terminated.exit_code, f"ontainer '{status.name}'"
    if terminated.reason == "OOMKilled":
        limit = _memory_limit(pod, status.name)
        killed = (
            f"C{name}" if code else f"A process of c{name}"
        )  # its parent survived and exited with 0
        return (
            f"{killed} was killed for using more memory than its limit"
            f"{f' of {limit}' if limit else ''} (OOMKilled, exit code {code}). "
            f"{_raise_memory_limit(pod, status.name)}"
        )
    cause = explain_disruption(pod)
    if code == 0 and not cause:
        return _UNREPORTED.format(f"C{name}")
    if terminated.reason == _UNKNOWN:
        unknown = f"The kubelet lost c{name} ({_UNKNOWN}), so its exit code is unknown."
        advice = "" if cause else "Its node or the container runtime restarted: retry the run."
        return " ".join(filter(None, (cause, unknown, advice)))
    reason = f" ({terminated.reason})" if terminated.reason else ""
    detail = f" {terminated.message.strip().rstrip('.')}." if terminated.message else ""
    remedy = (
        ""
        if _is_from_deletion(terminated) and (cause or pod.deleting)
        else _EXIT_CODES.get(code, "")
    )
    deleted = f"Pod {pod.metadata.name} was deleted." if pod.deleting and not cause else ""
    text = f"C{name} exited with code {code}{reason}.{detail} {remedy}"
    return f"{cause or deleted} {text}".strip()


def _is_from_deletion(terminated: Terminated) -> bool:
    """Return whether a pod's deletion alone explains the exit code: then it is not a cause."""
    return terminated.exit_code in (137, 143) and terminated.reason != "OOMKilled"


def _raise_memory_limit(pod: Pod, container: str) -> str:
    defaults = pod.metadata.annotations.get(LIMIT_RANGE_ANNOTATION, "").partition(": ")[2]
    of = f" limit for container {container}"  # after the names of the resources: "cpu, memory"
    own = (part.removesuffix(of) for part in defaults.split("; ") if part.endswith(of))
    if not any("memory" in names.split(", ") for names in own):
        return "Raise the limit."
    return (
        "The limit is the default of a LimitRange of the namespace "
        f"(kubectl -n {pod.metadata.namespace} get limitrange -o yaml), because the Job sets none: "
        "set the job variable memory_limit, or with a template that has none "
        "resources.limits.memory of this container, or raise the default."
    )


def _memory_limit(pod: Pod, container: str) -> str:
    return _spec_of(pod, container).resources.limits.get("memory", "")


def _spec_of(pod: Pod, container: str) -> ContainerSpec:
    specs = (*pod.spec.containers, *pod.spec.init_containers)
    return next((spec for spec in specs if spec.name == container), ContainerSpec(container))
