"""Rules for a run that is over while its Job may not be. Pure.

flow's container runs   COMPLETED, FAILED: it may finish its work, at most finishedGraceSeconds;
                        else 30 s; then the Job is deleted, marked with the state
only sidecars run       30 s, then the kubelet ends the pod (sidecars)
nothing ever started    the Job is deleted at once
"""

from __future__ import annotations

from workpool_operator.dispatch.rules import Input, Rule, sidecars
from workpool_operator.dispatch.rules.ended import unreported
from workpool_operator.dispatch.steps import (
    DeleteJob,
    Forget,
    Later,
    Nothing,
    Read,
    StartTtl,
    Step,
)
from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job, Pod

_REPORTED = ("COMPLETED", "FAILED")  # what a run says of itself before its hooks run


def job_lives(given: Input) -> Step | None:
    """Delete a Job that outlives its run, after a grace: no pod may write over the run's end
    (docs/races.md, 10)."""
    jobs = (job for job in given.seen.jobs if not (job.ended or job.deleting))
    job = next(jobs, None)
    if job is None:
        return None
    seen = given.seen
    pods = [pod for pod in seen.live_pods if pod.job_name == job.name]
    working = [pod for pod in pods if pod.started and not pod.flow_ended]
    if not working and (step := sidecars.end_pods(given, job)):
        return step
    finishing = any(_may_finish(given, pod) for pod in working)
    # A pod that is being deleted may reschedule the run any time, by its SIGTERM handler.
    leaving = bool(pods) and all(pod.deleting for pod in pods)
    if seen.started and not leaving and (rest := _rest(given, finishing=finishing)) > 0:
        return Later(rest)
    return _delete(given, job, finishing=finishing)


def job_unreported(given: Input) -> Step | None:
    """Start the TTL of a Job whose run's end is reported (docs/races.md, 15)."""
    job = unreported(given.seen.jobs)
    if job is None:
        return None
    return StartTtl(job, note=_unreported_oom(given) if job is given.seen.current else "")


def objects_leave(given: Input) -> Step | None:
    """Wait for the events of a Job that is being deleted, or of pods that have yet to end."""
    live = any(not job.ended for job in given.seen.jobs) or given.seen.live_pods
    return Nothing() if live else None


def last_word_unread(given: Input) -> Step | None:
    """Read the run once more after the operator ended a pod, whose last report may have come
    later."""
    return Read() if given.seen.ended_by_us and not given.seen.read_since("alone") else None


def nothing_left(_: Input) -> Step:
    """Forget a run that is over, with all that belonged to it."""
    return Forget()


FINAL: tuple[Rule, ...] = (
    job_lives,  # let it finish, then end it
    job_unreported,
    objects_leave,
    last_word_unread,
    nothing_left,
)


def _delete(given: Input, job: Job, *, finishing: bool) -> Step:
    state = given.run.state
    if state is None or not given.is_recent:
        return Read()
    seconds = given.policy.finished_grace
    note = (
        diagnosis.stopped_after_report(given.run.state_name, seconds=seconds) if finishing else ""
    )
    return DeleteJob(job, final=state, note=note)


def _rest(given: Input, *, finishing: bool) -> float:
    """Return the seconds until the Job is deleted; a long grace does not start anew with the
    operator."""
    known = given.seen.seconds_since("known")
    state = given.run.state
    if finishing and state and state.timestamp:
        known = max(known, (given.wall - state.timestamp).total_seconds())
    rest = (given.policy.finished_grace if finishing else given.policy.final_grace) - known
    if "settling" in given.seen.record.since:  # the Job controller is about to see the pod's end
        rest = max(rest, given.rest("settling", given.policy.status_grace))
    return rest


def _may_finish(given: Input, pod: Pod) -> bool:
    """Return whether the pod's process reported the end and goes on for hooks and uploads; a pod
    that Kubernetes started after the end does not."""
    run = given.run
    if run.state_type not in _REPORTED:
        return False
    started = (
        pod.flow_status.state.running.started_at
        if pod.flow_status and pod.flow_status.state.running
        else None
    )
    over = run.state.timestamp if run.state else None
    return started is None or over is None or started <= over


def _unreported_oom(given: Input) -> str:
    """Return what the report of the run's own process could not know."""
    state, fact = given.run.state, diagnosis.out_of_memory(given.seen.pods)
    return fact if state and fact not in (state.message or "") else ""
