"""What a Job and its pods mean for a person: why a run waits, how it ended, and what to do. Pure.

Every text names the fact (reason, exit code, limit) before the advice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from workpool_operator.jobs.disruption import disruption_target, explain_disruption
from workpool_operator.kube.models import (
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
_TOLD_SECONDS = 15.0  # what an init container may take without a word
_PERMANENT = frozenset({"InvalidImageName"})

_REMEDIES = {
    "ImagePullBackOff": "Check the image's name and tag, and the pull secret of the namespace.",
    "InvalidImageName": "Correct the image in the deployment's job variables or the template.",
    "CreateContainerConfigError": "Create the Secret or ConfigMap that it names, or correct it.",
    "Unschedulable": "Lower the resource requests, or add a node that fits.",
    INITIALIZING: (
        "The pending time-out does not count it; activeDeadlineSeconds bounds one that hangs."
    ),
    "SidecarNotStarted": "See the sidecar's log; correct its probe, or take the sidecar away.",
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
class WaitReason:
    """Why a flow does not start: `category` names the sub-state, `message` explains it.

    `is_permanent` marks a wait that nothing in the cluster can end; `container` has a log that says
    more.
    """

    category: str
    message: str
    is_permanent: bool = False
    container: str = ""

    @property
    def level(self) -> int:
        """Of its line in a log: work, and a place in a queue, are no trouble."""
        expected = (INITIALIZING, SUSPENDED, RESUMED)
        return logging.INFO if self.category in expected else logging.WARNING


@dataclass(frozen=True, slots=True)
class Termination:
    """How a Job ended without its run: `message` is the crash's, `exit_code` the container's.

    `pod` and `container` name the container that says more in its log; empty where none does.
    """

    message: str
    exit_code: int | None = None
    pod: str = ""
    container: str = ""


def wait_reason(pod: Pod | None, now: datetime) -> WaitReason | None:
    """The reason, if there is one, that a pod has not started the flow's container."""
    if pod is None or pod.ended or pod.started:
        return None
    return _container_waits(pod) or _initializing(pod, now) or _unschedulable(pod)


def is_initializing(pod: Pod) -> bool:
    """An ordinary init container runs: the pod works, it does not wait."""
    return any(status.state.running for status in pod.init_statuses)


def initializing_seconds(pod: Pod, now: datetime) -> float:
    """For how long ordinary init containers have worked."""
    return sum((_run_time(status, now) for status in pod.init_statuses), 0.0)


def suspended(job: Job, workload: str = "") -> WaitReason:
    """What a suspended Job waits for; `workload` is Kueue's own word on that."""
    kubectl = f"kubectl -n {job.metadata.namespace}"
    if job.queue:
        why = f"{workload}." if workload else f"`{kubectl} describe workloads` says what it lacks."
        text = f"The Job is suspended until Kueue admits it to queue '{job.queue}': {why}"
        return WaitReason(SUSPENDED, f"{text} No time-out runs meanwhile."[:MESSAGE_LENGTH])
    resume = f"""{kubectl} patch job {job.name} --type=merge -p '{{"spec":{{"suspend":false}}}}'"""
    text = "The Job is suspended, and no time-out runs, until somebody resumes it"
    return WaitReason(SUSPENDED, f"{text}: {resume}")


def resumed(job: Job) -> WaitReason:
    """The wait of a suspended Job is over."""
    return WaitReason(RESUMED, f"Job {job.name} was resumed; its pod is to start now.")


def keeps_place_in_queue(job: Job) -> str:
    """The run is to be run again, and its suspended Job has its place in a queue."""
    return (
        f"Job {job.name} is suspended by {_suspender(job)}. The run starts anew in it as soon as "
        "it is resumed, or in a new Job once it is deleted."
    )


def suspended_while_running(job: Job) -> WaitReason:
    """A Job was suspended under a running flow: the run is run again once the Job is resumed."""
    text = (
        f"Job {job.name} was suspended by {_suspender(job)} while the flow ran, and its pod "
        "was ended. The run starts anew as soon as the Job is resumed."
    )
    return WaitReason("AwaitingRetry", text)


def no_pods_reason(events: Iterable[Event], *, what: str) -> WaitReason | None:
    """What the newest warnings about a Job without pods, or a pod without containers, say."""
    warnings = [event for event in events if event.type == "Warning" and event.message]
    if not warnings:
        return None
    last = warnings[-1]
    return _wait(last.reason, f"{what}: {last.message} ({last.reason}).")


_NO_POD = (
    "Its pod is gone, and the cause with it, as after an eviction, a drain or a deletion that "
    "ended while no operator watched. `kubectl get events` in the Job's namespace may still name "
    "the cause. Part of the flow may have run: run it again where it may run twice."
)


def termination(job: Job, pods: Sequence[Pod]) -> Termination:
    """Why a Job that ended left its run unfinished."""
    if job.exceeded_deadline:
        return Termination(
            f"The Job ran longer than its activeDeadlineSeconds of "
            f"{job.spec.active_deadline_seconds} s and was stopped (DeadlineExceeded)."
            f"{_unfinished(pods)} Raise the limit in the pool's template, or make the flow faster."
        )
    if found := _last_end(pods):
        return _container_end(*found)
    if text := next(filter(None, map(explain_disruption, _newest_first(pods))), ""):
        return Termination(text)
    if failed := job.condition("Failed"):
        text = f"The Job failed: {failed.reason}. {failed.message}".strip()
        return Termination(text if pods else f"{text.rstrip('.')}. {_NO_POD}")
    return Termination(_UNREPORTED.format("The flow's container"), exit_code=0)


def _suspender(job: Job) -> str:
    return f"Kueue's queue '{job.queue}'" if job.queue else "somebody"


def retry_after_disruption(
    pods: Sequence[Pod], *, number: int, limit: int, delay: float
) -> WaitReason:
    """The infrastructure ended the run's pod before any code of the flow ran: it is tried again."""
    text = (
        f"Infrastructure retry {number} of {limit}: no code of the flow ran. "
        f"{explain_disruption(newest(pods), advise=False)} A new Job follows in {delay:.0f} s."
    )
    return WaitReason(INFRASTRUCTURE_RETRY, text[:MESSAGE_LENGTH])


def retries_exhausted(end: Termination, *, limit: int) -> Termination:
    """That happened once more than it may."""
    text = f"{end.message} jobs.infrastructureRetries ({limit}) allows no further new Job."
    return Termination(text, exit_code=end.exit_code)


def node_lost(pod: Pod) -> Termination:
    """The pod was to be deleted and its node has not ended it."""
    deadline, node = pod.metadata.deletion_timestamp, pod.spec.node_name
    until = f" by {deadline:%H:%M:%S} UTC" if deadline else ""
    reason = target.reason if (target := disruption_target(pod)) else "deleted"
    return Termination(
        f"Node {node} is lost: it was to end pod {pod.metadata.name}{until} ({reason}), which is "
        "still Terminating. The flow may still run there. Retry the run once the node answers "
        f"again, or is shut down and its Node object deleted: kubectl delete node {node}"
    )


def waits_for_lost_node(pod: Pod) -> str:
    """A run is to be run again and waits for a pod that its node does not end."""
    node = pod.spec.node_name
    return (
        f"The run waits for its last pod {pod.metadata.name}: it may still run on node {node}, "
        "which does not answer. The run goes on once the node answers again, or is shut down and "
        f"its Node object deleted: kubectl delete node {node}"
    )


def flow_ended(pod: Pod) -> Termination | None:
    """How the flow's container ended where its pod goes on for other containers."""
    end = pod.flow_status.state.terminated if pod.flow_status else None
    return _container_end(pod, pod.flow_status, end) if pod.flow_status and end else None


def stopped_after_report(state: str, *, seconds: int) -> str:
    """The flow's container went on for too long after its run had reported its end."""
    return (
        f"The flow's container still ran {seconds} s after its run had ended {state}, and was "
        "ended. If hooks or uploads need longer, raise finishedGraceSeconds."
    )


def out_of_memory(pods: Sequence[Pod]) -> str:
    """The fact behind a SIGKILL, which the run's own report can only guess; "" where it is none."""
    found = _last_end(pods)
    return _container_end(*found).message if found and found[2].reason == "OOMKilled" else ""


def job_vanished(job_name: str, pods: Sequence[Pod]) -> Termination:
    """The Job is gone from the cluster and its run is not finished."""
    found = _last_end(pods)
    told = found is not None and found[2].exit_code and not _is_a_stop(found[2])
    cause = f" Last seen: {_container_end(*found).message}" if found and told else ""
    return Termination(
        f"Job {job_name} vanished: it was deleted by somebody else than the operator while the run "
        f"was not finished.{cause} Retry the run, and keep whoever cleans up there from Jobs that "
        "have not ended."
    )


def never_started(wait: WaitReason | None, pod: Pod | None, *, seconds: int) -> Termination:
    """The pending time-out ended a wait."""
    why = f"{wait.category}: {wait.message}" if wait else "No reason is known."
    what = f"Pod {pod.metadata.name} did not start the flow's container" if pod else "Not started"
    return Termination(
        f"{what} within pendingTimeoutSeconds ({seconds} s). {why}",
        pod=pod.metadata.name if pod else "",
        container=wait.container if wait else "",
    )


#: What the kubelet answers, as if it were the log, once the runtime has removed the container.
_NO_LOG = "unable to retrieve container logs for "


def with_logs(end: Termination, log: str) -> str:
    """The crash's message with the container's last lines, within the length that Prefect keeps."""
    heading = "\n\nLast log lines:\n"
    message, lines = _text(end.message), _text(log).strip()
    if lines.startswith(_NO_LOG):
        lines = ""
    room = MESSAGE_LENGTH - len(message) - len(heading)
    if not lines or room <= 0:
        return message[:MESSAGE_LENGTH]
    return f"{message}{heading}{lines[-room:]}"


def _text(given: str) -> str:
    """Without what a database may refuse, as it does a NUL: then the run would never end."""
    return "".join(letter for letter in given if letter.isprintable() or letter in "\n\t")


def _container_waits(pod: Pod) -> WaitReason | None:
    """Init containers come first; one beside the flow's does not keep it from starting."""
    for status in (
        *pod.status.init_container_statuses,
        *((pod.flow_status,) if pod.flow_status else ()),
    ):
        state = status.state.waiting
        if state and state.reason in _WAITING:
            image = _spec_of(pod, status.name).image
            about = f" (image {image})" if "Image" in state.reason and image else ""
            text = f"container '{status.name}'{about}: {state.message or state.reason}"
            has_run = status.name if status.has_run else ""
            return _wait(_WAITING[state.reason], text, container=has_run)
    return None


def _initializing(pod: Pod, now: datetime) -> WaitReason | None:
    """An init container that has been running for a while keeps the flow's from starting."""
    for status in pod.status.init_container_statuses:
        seconds = _run_time(status, now)
        if not status.state.running or seconds < _TOLD_SECONDS:
            continue
        runs = f"container '{status.name}' has been running for {seconds:.0f} s"
        if status.name not in pod.sidecar_names:
            return _wait(INITIALIZING, runs)
        if not status.started:
            category = "CrashLoopBackOff" if status.restart_count else "SidecarNotStarted"
            probe = "its startup probe has not passed, or its postStart hook is not over"
            return _wait(category, f"{runs}, but {probe}", container=status.name)
    return None


def _run_time(status: ContainerStatus, now: datetime) -> float:
    """Seconds from the container's start to its end, or to now."""
    running, end = status.state.running, status.state.terminated
    began = running.started_at if running else end.started_at if end else None
    over = now if running else end.finished_at if end else None
    return max(0.0, (over - began).total_seconds()) if began and over else 0.0


def _unschedulable(pod: Pod) -> WaitReason | None:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            return _wait("Unschedulable", f"no node takes the pod: {condition.message}")
    return None


def _wait(category: str, text: str, *, container: str = "") -> WaitReason:
    message = f"{text.rstrip('. ')}. {_REMEDIES.get(category, '')}".strip()[:MESSAGE_LENGTH]
    return WaitReason(category, message, is_permanent=category in _PERMANENT, container=container)


def _last_end(pods: Sequence[Pod]) -> tuple[Pod, ContainerStatus, Terminated] | None:
    """What decided the newest pod in which something did: the end of the flow's container, or that
    of an init container without which it never started. A sidecar's end decides nothing."""
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
    """The init container at which a pod was stopped that never came to the flow."""
    if not pods or (pod := newest(pods)).started:
        return ""
    ends = {status.name: status.state.terminated for status in pod.init_statuses if status.has_run}
    found = (name for name, end in ends.items() if end is None or end.exit_code)
    return "".join(f" Its init container '{name}' had not ended by itself." for name in found)


def newest(pods: Iterable[Pod]) -> Pod:
    """The one that was created last; there must be one."""
    return _newest_first(pods)[0]


def _newest_first(pods: Iterable[Pod]) -> list[Pod]:
    return sorted(pods, key=lambda pod: pod.metadata.creation_timestamp or _EPOCH, reverse=True)


_EPOCH = datetime.fromtimestamp(0, UTC)
_UNKNOWN = "ContainerStatusUnknown"
_UNREPORTED = (
    "{} exited with code 0 without reporting the run's end. The command must be "
    "`prefect flow-run execute`, or end by it."
)


def _container_end(pod: Pod, status: ContainerStatus, terminated: Terminated) -> Termination:
    return Termination(
        _sentence(pod, status, terminated),
        exit_code=terminated.exit_code,
        pod=pod.metadata.name,
        container=status.name,
    )


def _sentence(pod: Pod, status: ContainerStatus, terminated: Terminated) -> str:
    code, name = terminated.exit_code, f"ontainer '{status.name}'"
    if terminated.reason == "OOMKilled":
        limit = _memory_limit(pod, status.name)
        killed = f"C{name}" if code else f"A process of c{name}"  # whose parent lived on
        return (
            f"{killed} was killed for using more memory than its limit"
            f"{f' of {limit}' if limit else ''} (OOMKilled, exit code {code}). Raise the limit."
        )
    cause = explain_disruption(pod)
    if code == 0 and not cause:
        return _UNREPORTED.format(f"C{name}")
    if terminated.reason == _UNKNOWN:
        unknown = f"The kubelet found no process of c{name} any more ({_UNKNOWN})"
        advice = "" if cause else " Its node or the container runtime restarted: retry the run."
        return f"{cause} {unknown}: its exit code is not known.{advice}".strip()
    reason = f" ({terminated.reason})" if terminated.reason else ""
    detail = f" {terminated.message.strip().rstrip('.')}." if terminated.message else ""
    remedy = "" if _is_a_stop(terminated) and (cause or pod.deleting) else _EXIT_CODES.get(code, "")
    deleted = f"Pod {pod.metadata.name} was deleted." if pod.deleting and not cause else ""
    text = f"C{name} exited with code {code}{reason}.{detail} {remedy}"
    return f"{cause or deleted} {text}".strip()


def _is_a_stop(terminated: Terminated) -> bool:
    """What the deletion of a pod itself brings about: no cause of anything."""
    return terminated.exit_code in (137, 143) and terminated.reason != "OOMKilled"


def _memory_limit(pod: Pod, container: str) -> str:
    return _spec_of(pod, container).resources.limits.get("memory", "")


def _spec_of(pod: Pod, container: str) -> ContainerSpec:
    specs = (*pod.spec.containers, *pod.spec.init_containers)
    return next((spec for spec in specs if spec.name == container), ContainerSpec(container))
