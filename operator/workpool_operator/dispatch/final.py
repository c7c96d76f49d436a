"""Rules for a run that is over while its Job may not be. Pure.

flow's container runs   COMPLETED, FAILED: it may finish its work, at most finishedGraceSeconds;
                        else 30 s; then the Job is deleted, marked with the state
only sidecars run       30 s, then the kubelet ends the pod (sidecars)
nothing ever started    the Job is deleted at once
"""

from __future__ import annotations

from datetime import datetime

from workpool_operator.dispatch import sidecars
from workpool_operator.dispatch.ended import unreported
from workpool_operator.dispatch.observed import Observed
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.steps import (
    DeleteJob,
    Forget,
    Later,
    Nothing,
    Read,
    StartTtl,
    Step,
)
from workpool_operator.jobs import verdict
from workpool_operator.kube.views import Job, Pod

_REPORTED = ("COMPLETED", "FAILED")  # what a run says of itself before its hooks run


def final(seen: Observed, policy: Policy, wall: datetime) -> Step:
    """No pod may outlive its run for long, and none may write over its end (docs/races.md, 10)."""
    live = [job for job in seen.jobs if not job.ended]
    if job := next((job for job in live if not job.deleting), None):
        return _outlived(seen, job, policy, wall)
    if job := unreported(seen.jobs):
        return StartTtl(job, note=_untold(seen) if job is seen.current else "")
    if live or seen.live_pods:
        return Nothing()
    if seen.ended_by_us and not seen.fresh("alone"):
        return Read()  # the pod's last word may have come after ours
    return Forget()


def _outlived(seen: Observed, job: Job, policy: Policy, wall: datetime) -> Step:
    pods = [pod for pod in seen.live_pods if pod.job_name == job.name]
    working = [pod for pod in pods if pod.started and not pod.flow_ended]
    if not working and (step := sidecars.end(seen, job, policy)):
        return step
    finishing = any(_may_finish(seen, pod) for pod in working)
    grace = policy.finished_grace if finishing else policy.final_grace
    rest = grace - _over_for(seen, wall, finishing=finishing)
    if "settling" in seen.since:  # the Job controller is about to see that the pod has ended
        rest = max(rest, policy.status_grace - seen.held("settling"))
    leaving = pods and all(
        pod.deleting for pod in pods
    )  # a SIGTERM may reschedule the run any time
    if seen.started and rest > 0 and not leaving:
        return Later(rest)
    if seen.run is None or seen.run.state is None or seen.age > policy.state_age:
        return Read()
    note = verdict.cut_off(seen.run.state_name, seconds=policy.finished_grace) if finishing else ""
    return DeleteJob(job, final=seen.run.state, note=note)


def _may_finish(seen: Observed, pod: Pod) -> bool:
    """Its process reported the end and goes on for hooks and uploads; a pod that Kubernetes started
    after the end does not."""
    run = seen.run
    if run is None or run.state_type not in _REPORTED:
        return False
    started = pod.flow.state.running.started_at if pod.flow and pod.flow.state.running else None
    over = run.state.timestamp if run.state else None
    return started is None or over is None or started <= over


def _over_for(seen: Observed, wall: datetime, *, finishing: bool) -> float:
    """Seconds since the run was over; a long grace does not start anew with the operator."""
    known = seen.held("known")
    over = seen.run.state.timestamp if finishing and seen.run and seen.run.state else None
    return max(known, (wall - over).total_seconds()) if over else known


def _untold(seen: Observed) -> str:
    """What the report of the run's own process could not know."""
    state = seen.run.state if seen.run else None
    fact = verdict.out_of_memory(seen.pods)
    return fact if state and fact not in (state.message or "") else ""
