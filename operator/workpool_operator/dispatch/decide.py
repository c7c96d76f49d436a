"""The decision table: one snapshot in, one action out. Pure.

    Prefect state   current Job          action
    SCHEDULED       previous one alive   wait for its pods, delete it after a grace, then claim
    SCHEDULED       previous suspended   keep it; once it is resumed claim, and adopt it (suspended)
    SCHEDULED       one that we ended    restore the final state that its SIGTERM handler undid
    SCHEDULED       deadline exceeded    Crashed, the limit named
    SCHEDULED       retries in process, gone   have polls return it again
    SCHEDULED       none, offered        claim
    PENDING, mine   none                 create the Job; say why the API server refuses it (pending)
    PENDING, mine   impossible           deployment deleted: Cancelled; its Job cannot be rendered,
                                         or is refused for good: Crashed with the fix (pending)
    PENDING, mine   waits                record its name; say what it waits for (pending)
    PENDING, mine   suspended            say what it waits for, however long (suspended)
    PENDING, mine   infrastructure       back to SCHEDULED, so often as it may be (retries)
    PENDING, mine   deployment's lease   renew it until the run starts
    PENDING, other  any                  leave alone
    PENDING, stray  any                  restore what a late claim of ours wrote over
    PENDING/RUNNING Failed               Crashed: reason, exit code, remedy, last log lines (ended)
    PENDING/RUNNING Complete             Crashed after a grace: "exited 0 without reporting"
    RUNNING         suspended, no pods   AwaitingRetry
    PENDING/RUNNING node is lost         Crashed, though the pod stays (dead_nodes)
    PENDING/RUNNING gone                 Crashed after a grace and a confirming read: "vanished"
    PAUSED          ended, gone          as RUNNING if a pod is wanted; a suspended run: nothing
    CANCELLING      any                  delete the Job, then Cancelled
    RUNNING         a later pod waits    report it; Crashed after the pending time-out (pending)
    any             only sidecars live   Crashed if nothing was reported; the pod's end (sidecars)
    final           alive                after a grace: annotate with the state, then delete (final)
    unknown (404)   ours                 delete
    not read yet    any                  read, unless only Jobs with reported ends are left

Each state has an ordered list of rules, and the first that applies decides. Nothing destructive is
decided on a state that was read before the fact that asks for it. Each rule that answers a measured
trap names its number in the study of races.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from workpool_operator.dispatch import dead_nodes, sidecars, suspended
from workpool_operator.dispatch.ended import ended, gone, unreported
from workpool_operator.dispatch.final import FINAL
from workpool_operator.dispatch.pending import identify, later_pod, pending, unrecorded
from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.rules import Input, JobRule, Rule, first
from workpool_operator.dispatch.snapshot import Snapshot
from workpool_operator.dispatch.steps import (
    Cancel,
    Claim,
    ConfirmGone,
    Crash,
    DeleteJob,
    Forget,
    Later,
    Nothing,
    Read,
    Reschedule,
    Restore,
    StartTtl,
    Step,
    UndoClaim,
    Withdraw,
)
from workpool_operator.jobs import verdict
from workpool_operator.kube.views import FINAL_STATE_ANNOTATION, Job
from workpool_operator.prefect_api.views import State


def decide(seen: Snapshot, policy: Policy, *, wall: datetime) -> Step:
    """Return the one next action for the run; `wall` is the time of day for Kubernetes'
    timestamps."""
    record = seen.record
    if record.is_stale:
        return Read()
    if record.missing:
        return _unknown(seen, policy)
    if record.run is None:
        return Forget() if _is_settled(seen) else Read()
    if record.stray_claim:
        return UndoClaim()
    rules = FINAL if record.run.final else RULES[record.run.state_type]
    return first(rules, Input(record.run, seen, policy, wall))


def _is_settled(seen: Snapshot) -> bool:
    """The run is not offered, and all that is left of it are Jobs whose end is reported."""
    unsettled = [job for job in seen.jobs if not job.ended or unreported((job,))]
    return seen.record.offered_at is None and not seen.live_pods and not unsettled


def _unknown(seen: Snapshot, policy: Policy) -> Step:
    """Prefect does not know the run: its Jobs work in vain."""
    jobs = [job for job in seen.jobs if job.name not in seen.foreign_jobs]
    if not jobs:
        return Forget()
    if not (seen.read_since("known") and seen.age <= policy.state_age):
        return Read()
    return next((DeleteJob(job) for job in jobs if not job.deleting), Nothing())


# SCHEDULED


def message_unread(given: Input) -> Step | None:
    """A poll does not tell the state's message, by which the next rules tell a SIGTERM handler from
    a person."""
    seen = given.seen
    is_wanted = given.run.state is None and (seen.previous_jobs or seen.ended_by_us)
    return Read() if is_wanted else None


def end_undone(given: Input) -> Step | None:
    """The Job that we ended: its pod rescheduled its finished run. Only the pod's SIGTERM handler
    writes AwaitingRetry without a message; a person's retry has one."""
    run, job = given.run, given.seen.ended_by_us
    if job is None or run.state_name != "AwaitingRetry" or (run.state and run.state.message):
        return None
    return Restore(_annotated_state(job)) if given.is_recent else Read()


def over_deadline(given: Input) -> Step | None:
    """The recorded Job ran into activeDeadlineSeconds, and its SIGTERM handler rescheduled the run,
    which would run into it again and again (docs/races.md, 11)."""
    seen = given.seen
    for job in seen.previous_jobs:
        if job.exceeded_deadline and job.name == seen.recorded_name and unreported((job,)):
            return Crash(verdict.ended(job, ())) if given.is_recent else Read()
    return None


def overlapping(given: Input) -> Step | None:
    """The last attempt's pod still runs, or could: two must not overlap (docs/races.md, 12)."""
    seen = given.seen
    if not seen.overlapping:
        return None
    if seen.record.offered_at is not None:
        return Withdraw()
    if given.run.retries_in_process:
        return Nothing()
    job = next((job for job in seen.live_previous_jobs if not job.deleting), None)
    if job is None:
        return dead_nodes.blocking(given) or Later(5.0)
    if not job.ended and (step := sidecars.end(given, job)):
        return step
    if (rest := given.rest("previous", given.policy.previous_job_grace)) > 0:
        return Later(rest)
    return DeleteJob(job) if given.is_sure("previous") else Read()


def process_ended(given: Input) -> Step | None:
    """It was to go on in its own process, whose Job is over: no poll returns it (docs/races.md,
    26)."""
    seen = given.seen
    is_over = given.run.retries_in_process and (seen.previous_jobs or seen.gone_jobs)
    return Reschedule(given.run) if is_over else None


def process_out_of_sight(given: Input) -> Step | None:
    """It waits to go on in its own process, and no Job of it is here: is that process gone?"""
    seen = given.seen
    if not given.run.retries_in_process or not seen.recorded_name:
        return None
    if seen.record.offered_at is not None:
        return None
    if seen.record.claim is None:
        return identify(given)
    if (rest := given.rest("alone", given.policy.vanish_grace)) > 0:
        return Later(rest)
    if not seen.confirmed_gone:
        return ConfirmGone(seen.recorded_name)
    return Reschedule(given.run) if given.is_sure("alone") else Read()


def previous_job_unreported(given: Input) -> Step | None:
    """The end of an earlier Job needs no report any more: its TTL begins."""
    job = unreported(given.seen.previous_jobs)
    return StartTtl(job) if job else None


def not_offered(given: Input) -> Step | None:
    """A poll offers it when it is due; refused claims are remembered until then (docs/races.md,
    7)."""
    record = given.seen.record
    if record.offered_at is not None:
        return None
    if record.not_before and (rest := (record.not_before - given.wall).total_seconds()) > 0:
        return Later(rest)
    return Nothing() if given.seen.previous_jobs or record.refused_claims else Forget()


def offer_too_old(given: Input) -> Step | None:
    """A claim on a state of long ago may run a finished run again (docs/races.md, 2)."""
    offered_at = given.seen.record.offered_at
    is_old = offered_at is not None and given.seen.now - offered_at > given.policy.state_age
    return Withdraw(late=True) if is_old else None


def claim(_: Input) -> Step:
    """The run is due, a slot is free, and nothing of it is left in the cluster."""
    return Claim()


SCHEDULED: tuple[Rule, ...] = (
    message_unread,
    end_undone,  # restore the final state
    over_deadline,  # Crashed, the limit named
    suspended.kept,
    suspended.resumed,
    overlapping,
    process_ended,
    process_out_of_sight,
    previous_job_unreported,
    not_offered,
    offer_too_old,
    claim,
)


# RUNNING


def job_missing(given: Input) -> Step | None:
    """The run has no Job: it is another's, or its Job vanished."""
    if given.seen.current is not None:
        return None
    return identify(given) if given.seen.record.claim is None else gone(given)


def job_runs(given: Input) -> Step | None:
    """The run's Job exists."""
    return first(WITH_JOB, given, given.seen.current) if given.seen.current else None


WITH_JOB: tuple[JobRule, ...] = (
    unrecorded,  # write infrastructure_pid
    ended,  # Crashed: reason, exit code, remedy, last log lines
    suspended.running,  # back to SCHEDULED
    dead_nodes.overdue,  # Crashed, though the pod stays
    sidecars.unreported,  # only sidecars live: Crashed
    later_pod,  # the Job started another pod, which may wait
)

RUNNING: tuple[Rule, ...] = (job_missing, job_runs)


# PAUSED


def pause_unread(given: Input) -> Step | None:
    """Only the full state tells a pause that keeps its pod from one that does not."""
    return Read() if given.run.state is None else None


def run_suspended(given: Input) -> Step | None:
    """A suspended run has no pod and wants none; a blocking pause needs its pod."""
    state = given.run.state
    reschedules = state is not None and state.state_details.pause_reschedule
    if not (reschedules or given.run.state_name == "Suspended"):
        return None
    if job := unreported(given.seen.jobs):
        return StartTtl(job)
    live = next((job for job in given.seen.jobs if not (job.ended or job.deleting)), None)
    return (sidecars.end(given, live) if live else None) or Nothing()


# CANCELLING


def not_known_ours(given: Input) -> Step | None:
    """It has no Job here, and no claim of ours is known."""
    is_known = given.seen.current is not None or given.seen.record.claim is not None
    return None if is_known else identify(given)


def may_end_itself(given: Input) -> Step | None:
    """The flow's own process cancels itself, unless only its sidecars are left."""
    seen = given.seen
    is_over = bool(seen.outlived) and seen.read_since("outlived")
    if is_over or not _live_jobs(seen) or not _has_started(given):
        return None
    rest = given.rest("known", given.policy.cancel_grace)
    return Later(rest) if rest > 0 else None


def read_long_ago(given: Input) -> Step | None:
    """What follows ends something."""
    return None if given.is_recent else Read()


def delete_job(given: Input) -> Step | None:
    """Its Job is ended first, so that nothing of the run goes on after it is Cancelled."""
    jobs = (job for job in _live_jobs(given.seen) if not job.deleting)
    return next((DeleteJob(job) for job in jobs), None)


def cancel(given: Input) -> Step:
    """The run's process did not say itself that it is cancelled."""
    by_us = "Cancelled by the operator: the run's own process did not end by itself."
    return Cancel(by_us if _has_started(given) else "Cancelled before it started.")


RULES: Mapping[str, tuple[Rule, ...]] = {
    "SCHEDULED": SCHEDULED,
    "PENDING": (pending,),
    "RUNNING": RUNNING,
    "PAUSED": (pause_unread, run_suspended, *RUNNING),
    "CANCELLING": (not_known_ours, may_end_itself, read_long_ago, delete_job, cancel),
}


def _live_jobs(seen: Snapshot) -> list[Job]:
    return [job for job in seen.jobs if not job.ended]


def _has_started(given: Input) -> bool:
    return given.run.start_time is not None and given.seen.started


def _annotated_state(job: Job) -> State:
    type_, _, rest = job.metadata.annotations[FINAL_STATE_ANNOTATION].partition("/")
    name, _, message = rest.partition("/")
    return State(type=type_, name=name, message=message or None)
