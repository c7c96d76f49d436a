"""Rules for a run that has started and not ended: RUNNING, PAUSED, CANCELLING. Pure."""

from __future__ import annotations

from workpool_operator.dispatch.rules import (
    Input,
    JobRule,
    Rule,
    first,
    lost_nodes,
    sidecars,
    suspended,
)
from workpool_operator.dispatch.rules.ended import ended, gone, unreported
from workpool_operator.dispatch.rules.pending import identify, replacement_pod, unrecorded
from workpool_operator.dispatch.snapshot import Snapshot
from workpool_operator.dispatch.steps import (
    Cancel,
    DeleteJob,
    Later,
    Nothing,
    Read,
    StartTtl,
    Step,
)
from workpool_operator.kube.models import Job

# RUNNING


def job_missing(given: Input) -> Step | None:
    """Treat a run without a Job as another's, or as one whose Job vanished."""
    if given.seen.current is not None:
        return None
    return identify(given) if given.seen.record.claim is None else gone(given)


def job_runs(given: Input) -> Step | None:
    """Apply the rules for a run whose Job exists."""
    return first(WITH_JOB, given, given.seen.current) if given.seen.current else None


WITH_JOB: tuple[JobRule, ...] = (
    unrecorded,  # write infrastructure_pid
    ended,  # Crashed: reason, exit code, remedy, last log lines
    suspended.running,  # back to SCHEDULED
    lost_nodes.overdue,  # Crashed, though the pod stays
    sidecars.flow_ended,  # only sidecars live: Crashed
    replacement_pod,  # the Job started another pod, which may wait
)

RUNNING: tuple[Rule, ...] = (job_missing, job_runs)


# PAUSED


def pause_unread(given: Input) -> Step | None:
    """Read the full state: only it distinguishes a pause that keeps its pod from one that does
    not."""
    return Read() if given.run.state is None else None


def run_suspended(given: Input) -> Step | None:
    """Expect no pod of a suspended run, and end what is left; a blocking pause needs its pod."""
    state = given.run.state
    reschedules = state is not None and state.state_details.pause_reschedule
    if not (reschedules or given.run.state_name == "Suspended"):
        return None
    if job := unreported(given.seen.jobs):
        return StartTtl(job)
    live = next((job for job in given.seen.jobs if not (job.ended or job.deleting)), None)
    return (sidecars.end_pods(given, live) if live else None) or Nothing()


PAUSED: tuple[Rule, ...] = (pause_unread, run_suspended, *RUNNING)


# CANCELLING


def unknown_run(given: Input) -> Step | None:
    """Find out whose a run is that has no Job here and no known claim of ours."""
    is_known = given.seen.current is not None or given.seen.record.claim is not None
    return None if is_known else identify(given)


def may_end_itself(given: Input) -> Step | None:
    """Give the flow's own process time to cancel itself, unless only sidecars are left."""
    seen = given.seen
    is_over = bool(seen.outlived) and seen.read_since("outlived")
    if is_over or not _live_jobs(seen) or not _has_started(given):
        return None
    rest = given.rest("known", given.policy.cancel_grace)
    return Later(rest) if rest > 0 else None


def read_long_ago(given: Input) -> Step | None:
    """Read a state of long ago again before something is ended."""
    return None if given.is_recent else Read()


def delete_job(given: Input) -> Step | None:
    """Delete the run's Jobs first, so that nothing of it goes on after it is Cancelled."""
    jobs = (job for job in _live_jobs(given.seen) if not job.deleting)
    return next((DeleteJob(job) for job in jobs), None)


def cancel(given: Input) -> Step:
    """Cancel a run whose own process did not report that it is cancelled."""
    by_us = "Cancelled by the operator: the run's own process did not end by itself."
    return Cancel(by_us if _has_started(given) else "Cancelled before it started.")


CANCELLING: tuple[Rule, ...] = (
    unknown_run,
    may_end_itself,
    read_long_ago,
    delete_job,
    cancel,
)


def _live_jobs(seen: Snapshot) -> list[Job]:
    return [job for job in seen.jobs if not job.ended]


def _has_started(given: Input) -> bool:
    return given.run.start_time is not None and given.seen.started
