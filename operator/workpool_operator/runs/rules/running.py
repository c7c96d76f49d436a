"""Rules for a run that has started and not ended: RUNNING, PAUSED, CANCELLING. Pure."""

from __future__ import annotations

from workpool_operator.kube.models import Job
from workpool_operator.runs.actions import (
    Action,
    DeleteJob,
    NoAction,
    RefreshRun,
    ReportCancelled,
    RequeueAfter,
    SetJobTTL,
)
from workpool_operator.runs.rules import Input, JobRule, Rule, cancelled, ended, first, suspended
from workpool_operator.runs.rules.pending import identify, replacement_pod, unrecorded
from workpool_operator.runs.snapshot import Snapshot

# RUNNING


def job_missing(given: Input) -> Action | None:
    """Look for our claim on a run without a Job; crash the run if its Job vanished."""
    if given.snapshot.current is not None:
        return None
    return identify(given) if given.snapshot.record.claim is None else ended.vanished(given)


def job_runs(given: Input) -> Action | None:
    """Apply the rules for a run whose Job exists."""
    return first(WITH_JOB, given, given.snapshot.current) if given.snapshot.current else None


WITH_JOB: tuple[JobRule, ...] = (
    unrecorded,  # write infrastructure_pid
    ended.job_ended,  # Crashed: reason, exit code, remedy, last log lines
    cancelled.running,  # its binding is being deleted
    suspended.running,  # back to SCHEDULED
    ended.pod_overdue,  # Crashed, though the pod stays
    ended.flow_ended,  # only sidecars are running: Crashed
    replacement_pod,  # the Job started another pod, which may wait
)

RUNNING: tuple[Rule, ...] = (job_missing, job_runs)


# PAUSED


def pause_unread(given: Input) -> Action | None:
    """Read the full state: only it distinguishes a pause that keeps its pod from one that does
    not."""
    return RefreshRun() if given.run.state is None else None


def run_suspended(given: Input) -> Action | None:
    """Expect no pod of a suspended run and end what is left; a blocking pause needs its pod."""
    state = given.run.state
    reschedules = state is not None and state.state_details.pause_reschedule
    if not (reschedules or given.run.state_name == "Suspended"):
        return None
    if job := ended.unreported(given.snapshot.jobs):
        return SetJobTTL(job)
    live = next((job for job in given.snapshot.jobs if not (job.ended or job.deleting)), None)
    return (ended.end_sidecars(given, live) if live else None) or NoAction()


PAUSED: tuple[Rule, ...] = (pause_unread, run_suspended, *RUNNING)


# CANCELLING


def unknown_run(given: Input) -> Action | None:
    """Look for our claim on a run that has no Job here."""
    is_known = given.snapshot.current is not None or given.snapshot.record.claim is not None
    return None if is_known else identify(given)


def may_end_itself(given: Input) -> Action | None:
    """Give the flow's own process time to cancel itself, unless only sidecars are left."""
    snapshot = given.snapshot
    is_over = bool(snapshot.outlived) and snapshot.read_since("outlived")
    if is_over or not _live_jobs(snapshot) or not _has_started(given):
        return None
    rest = given.remaining("known", given.timeouts.cancel_grace)
    return RequeueAfter(rest) if rest > 0 else None


def read_long_ago(given: Input) -> Action | None:
    """Read the run again before something is ended on an old state."""
    return None if given.is_recent else RefreshRun()


def delete_job(given: Input) -> Action | None:
    """Delete the run's Jobs first, so that nothing of it runs after it is Cancelled."""
    jobs = (job for job in _live_jobs(given.snapshot) if not job.deleting)
    return next((DeleteJob(job) for job in jobs), None)


def cancel(given: Input) -> Action:
    """Cancel a run whose own process did not report that it is cancelled."""
    by_us = "Cancelled by the operator: the run's own process did not end by itself."
    return ReportCancelled(by_us if _has_started(given) else "Cancelled before it started.")


CANCELLING: tuple[Rule, ...] = (
    unknown_run,
    may_end_itself,
    read_long_ago,
    delete_job,
    cancel,
)


def _live_jobs(snapshot: Snapshot) -> list[Job]:
    return [job for job in snapshot.jobs if not job.ended]


def _has_started(given: Input) -> bool:
    return given.run.start_time is not None and given.snapshot.started
