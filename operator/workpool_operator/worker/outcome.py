"""The exit code of a Job that is over, as Prefect's worker results have it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from workpool_operator.kube.views import ContainerStatus, Job, Pod, Terminated

NEVER_STARTED = 125  # "container failed to run", in Prefect's own table of exit codes
STOPPED = 143  # SIGTERM: how Kubernetes ends a pod whose status nobody saw
_EPOCH = datetime.fromtimestamp(0, UTC)


def exit_code(job: Job | None, pods: Iterable[Pod]) -> int:
    """The flow container's own, of the newest pod that has one; else what stands for how the Job
    ended. A Job that is Complete is 0: an earlier pod's failure was made good by a later one."""
    if job and job.condition("Complete"):
        return 0
    flows = [flow for pod in sorted(pods, key=_made_at, reverse=True) if (flow := pod.flow)]
    codes = (end.exit_code for flow in flows if (end := _end(flow)))
    if (code := next(codes, None)) is not None:
        return code
    return STOPPED if any(flow.state.running for flow in flows) else NEVER_STARTED


def _end(flow: ContainerStatus) -> Terminated | None:
    """How it ended last. One that never started has a made-up 137 once its pod is deleted."""
    end = flow.state.terminated or flow.last_state.terminated
    return end if end and end.started_at else None


def _made_at(pod: Pod) -> datetime:
    return pod.metadata.creation_timestamp or _EPOCH
