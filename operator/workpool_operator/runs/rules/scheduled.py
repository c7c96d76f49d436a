"""Rules for a run that waits for its first or its next attempt. Pure.

Two pods of a run must not overlap: the run is claimed once nothing of its last attempt may run.
"""

from __future__ import annotations

from workpool_operator.jobs import diagnosis
from workpool_operator.prefect_api.models import State
from workpool_operator.runs.actions import (
    Action,
    ClaimRun,
    ConfirmJobDeleted,
    DeleteJob,
    DropOffer,
    ForgetRun,
    NoAction,
    PollAgain,
    RefreshRun,
    ReportCrashed,
    RequeueAfter,
    Reschedule,
    RestoreState,
    SetJobTTL,
)
from workpool_operator.runs.rules import Input, Rule, cancelled, ended, suspended
from workpool_operator.runs.rules.pending import identify


def message_unread(given: Input) -> Action | None:
    """Read the state's message, which a poll omits: it distinguishes the retry of a SIGTERM handler
    from that of a person."""
    snapshot = given.snapshot
    is_wanted = given.run.state is None and (snapshot.previous_jobs or snapshot.ended_by_us)
    return RefreshRun() if is_wanted else None


def end_overwritten(given: Input) -> Action | None:
    """Restore the final state of a run that the pod of its deleted Job rescheduled. Only the
    SIGTERM handler of a pod writes AwaitingRetry without a message; a person's retry has one."""
    run, job = given.run, given.snapshot.ended_by_us
    final = job.final_state if job else None
    if final is None or run.state_name != "AwaitingRetry" or (run.state and run.state.message):
        return None
    if not given.is_recent:
        return RefreshRun()
    return RestoreState(State(type=final.type, name=final.name, message=final.message or None))


def over_deadline(given: Input) -> Action | None:
    """Crash a run whose recorded Job exceeded activeDeadlineSeconds. Its SIGTERM handler
    rescheduled the run, which would exceed the limit again and again (docs/races.md, 11)."""
    snapshot = given.snapshot
    for job in snapshot.previous_jobs:
        if (
            job.exceeded_deadline
            and job.name == snapshot.recorded_name
            and ended.unreported((job,))
        ):
            return (
                ReportCrashed(diagnosis.termination(job, ())) if given.is_recent else RefreshRun()
            )
    return None


def overlapping(given: Input) -> Action | None:
    """Wait while the last attempt's pod runs, or could; delete its Job after a grace: two pods must
    not overlap (docs/races.md, 12)."""
    snapshot = given.snapshot
    if not snapshot.overlapping:
        return None
    if snapshot.record.offered_at is not None:
        return DropOffer()
    if given.run.retries_in_process:
        return NoAction()
    job = next((job for job in snapshot.live_previous_jobs if not job.deleting), None)
    if job is None:
        return ended.blocked_by_lost_node(given) or RequeueAfter(5.0)
    if not job.ended and (action := ended.end_sidecars(given, job)):
        return action
    if (rest := given.remaining("previous", given.timeouts.previous_job_grace)) > 0:
        return RequeueAfter(rest)
    return DeleteJob(job) if given.is_sure("previous") else RefreshRun()


def process_ended(given: Input) -> Action | None:
    """Reschedule a run that was to continue in its own process and whose Job has ended: no poll
    returns it (docs/races.md, 26)."""
    snapshot = given.snapshot
    is_over = given.run.retries_in_process and (snapshot.previous_jobs or snapshot.deleted_jobs)
    return Reschedule(given.run) if is_over else None


def process_vanished(given: Input) -> Action | None:
    """Reschedule a run that was to continue in its own process and has no Job here, once a GET
    confirms that."""
    snapshot = given.snapshot
    if not given.run.retries_in_process or not snapshot.recorded_name:
        return None
    if snapshot.record.offered_at is not None:
        return None
    if snapshot.record.claim is None:
        return identify(given)
    if (rest := given.remaining("nothing_left", given.timeouts.vanish_grace)) > 0:
        return RequeueAfter(rest)
    if not snapshot.confirmed_deleted:
        return ConfirmJobDeleted(snapshot.recorded_name)
    return Reschedule(given.run) if given.is_sure("nothing_left") else RefreshRun()


def previous_job_unreported(given: Input) -> Action | None:
    """Start the TTL of an earlier Job, whose end needs no report."""
    job = ended.unreported(given.snapshot.previous_jobs)
    return SetJobTTL(job) if job else None


def not_offered(given: Input) -> Action | None:
    """Wait for a poll to offer the run, and remember its refused claims until then (docs/races.md,
    7). One that was put off is due again without an event."""
    record = given.snapshot.record
    if record.offered_at is not None:
        return None
    if (rest := given.deferred_seconds) > 0:
        return RequeueAfter(rest)
    if record.not_before is not None:
        return PollAgain()
    return NoAction() if given.snapshot.previous_jobs or record.refused_claims else ForgetRun()


def offer_too_old(given: Input) -> Action | None:
    """Drop an old offer: a claim on an old state can run a finished run again (docs/races.md,
    2)."""
    offered_at = given.snapshot.record.offered_at
    is_old = offered_at is not None and given.snapshot.now - offered_at > given.timeouts.state_age
    return DropOffer(is_expired=True) if is_old else None


def claims_held(given: Input) -> Action | None:
    """Drop the offer while the API server refuses Jobs for now, so that the run is not claimed only
    to wait; or if the binding is being deleted."""
    return DropOffer(is_expired=True) if given.snapshot.claims_held else None


def claim(_: Input) -> Action:
    """Claim a run that is due, has a slot, and has nothing left in the cluster."""
    return ClaimRun()


SCHEDULED: tuple[Rule, ...] = (
    message_unread,
    end_overwritten,  # restore the final state
    over_deadline,  # Crashed, the limit named
    cancelled.scheduled,  # its binding is being deleted
    suspended.kept,
    suspended.resumed,
    overlapping,
    process_ended,
    process_vanished,
    previous_job_unreported,
    not_offered,
    offer_too_old,
    claims_held,
    claim,
)
