"""Rules for a run that has ended although its Job may not have. Pure.

flow container runs     COMPLETED, FAILED: it may finish its work, at most finishedGraceSeconds;
                        else 30 s; then the Job is annotated with the state and deleted
only sidecars run       30 s, then the kubelet ends the pod (ended.end_sidecars)
nothing ever started    the Job is deleted at once
"""

from __future__ import annotations

from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.actions import (
    Action,
    DeleteJob,
    ForgetRun,
    NoAction,
    RefreshRun,
    RequeueAfter,
    SetJobTTL,
)
from workpool_operator.runs.rules import Input, Rule, ended

_REPORTED = ("COMPLETED", "FAILED")  # reported by the run itself, before its hooks run


def job_active(given: Input) -> Action | None:
    """Delete a Job that outlives its run, after a grace: no pod may overwrite the run's final state
    (docs/races.md, 10)."""
    jobs = (job for job in given.snapshot.jobs if not (job.ended or job.deleting))
    job = next(jobs, None)
    if job is None:
        return None
    snapshot = given.snapshot
    pods = [pod for pod in snapshot.live_pods if pod.job_name == job.name]
    working = [pod for pod in pods if pod.started and not pod.flow_ended]
    if not working and (action := ended.end_sidecars(given, job)):
        return action
    finishing = any(_may_finish(given, pod) for pod in working)
    # The SIGTERM handler of a pod that is being deleted can reschedule the run at any time.
    leaving = bool(pods) and all(pod.deleting for pod in pods)
    if snapshot.started and not leaving and (rest := _rest(given, finishing=finishing)) > 0:
        return RequeueAfter(rest)
    return _delete(given, job, finishing=finishing)


def job_unreported(given: Input) -> Action | None:
    """Start the TTL of a Job whose run's end is reported (docs/races.md, 15)."""
    job = ended.unreported(given.snapshot.jobs)
    if job is None:
        return None
    return SetJobTTL(job, note=_unreported_oom(given) if job is given.snapshot.current else "")


def objects_terminating(given: Input) -> Action | None:
    """Wait for the events of a Job that is being deleted, or of pods that have yet to end."""
    live = any(not job.ended for job in given.snapshot.jobs) or given.snapshot.live_pods
    return NoAction() if live else None


def last_report_unread(given: Input) -> Action | None:
    """Read the run once more after the operator ended a pod, whose last report may have come
    later."""
    return (
        RefreshRun()
        if given.snapshot.ended_by_us and not given.snapshot.read_since("nothing_left")
        else None
    )


def nothing_left(_: Input) -> Action:
    """Forget a run that has ended and has nothing left in the cluster."""
    return ForgetRun()


FINAL: tuple[Rule, ...] = (
    job_active,  # let it finish, then end it
    job_unreported,
    objects_terminating,
    last_report_unread,
    nothing_left,
)


def _delete(given: Input, job: Job, *, finishing: bool) -> Action:
    state = given.run.state
    if state is None or not given.is_recent:
        return RefreshRun()
    seconds = given.timeouts.finished_grace
    note = (
        diagnosis.stopped_after_report(given.run.state_name, seconds=seconds) if finishing else ""
    )
    return DeleteJob(job, final=state, note=note)


def _rest(given: Input, *, finishing: bool) -> float:
    """Return the seconds until the Job is deleted; a restart of the operator does not restart a
    long grace."""
    known = given.snapshot.seconds_since("known")
    state = given.run.state
    if finishing and state and state.timestamp:
        since = given.in_cluster_time(state.timestamp)
        known = max(known, (given.wall - since).total_seconds())
    rest = (given.timeouts.finished_grace if finishing else given.timeouts.final_grace) - known
    # The Job controller is about to notice that the pod has ended.
    if "settling" in given.snapshot.record.since:
        rest = max(rest, given.remaining("settling", given.timeouts.status_grace))
    return rest


def _may_finish(given: Input, pod: Pod) -> bool:
    """Return whether the pod's process reported the end and continues for hooks and uploads, unlike
    a pod that Kubernetes started after the end."""
    run = given.run
    if run.state_type not in _REPORTED:
        return False
    started = (
        pod.flow_status.state.running.started_at
        if pod.flow_status and pod.flow_status.state.running
        else None
    )
    over = run.state.timestamp if run.state else None
    return started is None or over is None or started <= given.in_cluster_time(over)


def _unreported_oom(given: Input) -> str:
    """Return what the report of the run's own process could not know."""
    state, fact = given.run.state, diagnosis.out_of_memory(given.snapshot.pods)
    return fact if state and fact not in (state.message or "") else ""
