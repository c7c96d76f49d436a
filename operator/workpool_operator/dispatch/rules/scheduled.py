"""Rules for a run that waits for its first or its next attempt. Pure.

Two pods of a run must not overlap: the run is claimed once nothing of its last attempt may run.
"""

from __future__ import annotations

from workpool_operator.dispatch.rules import Input, Rule, lost_nodes, sidecars, suspended
from workpool_operator.dispatch.rules.ended import unreported
from workpool_operator.dispatch.rules.pending import identify
from workpool_operator.dispatch.steps import (
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
    Withdraw,
)
from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import FINAL_STATE_ANNOTATION, Job
from workpool_operator.prefect_api.models import State


def message_unread(given: Input) -> Step | None:
    """Read the state's message, which a poll omits: the next rules need it to tell the retry of a
    SIGTERM handler from that of a person."""
    seen = given.seen
    is_wanted = given.run.state is None and (seen.previous_jobs or seen.ended_by_us)
    return Read() if is_wanted else None


def end_undone(given: Input) -> Step | None:
    """Restore the final state of a run whose Job the operator ended and whose pod rescheduled it on
    its way out. Only the pod's SIGTERM handler writes AwaitingRetry without a message; a person's
    retry has one."""
    run, job = given.run, given.seen.ended_by_us
    if job is None or run.state_name != "AwaitingRetry" or (run.state and run.state.message):
        return None
    return Restore(_annotated_state(job)) if given.is_recent else Read()


def over_deadline(given: Input) -> Step | None:
    """Crash a run whose recorded Job exceeded activeDeadlineSeconds. Its SIGTERM handler
    rescheduled the run, which would exceed the limit again and again (docs/races.md, 11)."""
    seen = given.seen
    for job in seen.previous_jobs:
        if job.exceeded_deadline and job.name == seen.recorded_name and unreported((job,)):
            return Crash(diagnosis.termination(job, ())) if given.is_recent else Read()
    return None


def overlapping(given: Input) -> Step | None:
    """Wait while the last attempt's pod runs, or could; delete its Job after a grace: two pods must
    not overlap (docs/races.md, 12)."""
    seen = given.seen
    if not seen.overlapping:
        return None
    if seen.record.offered_at is not None:
        return Withdraw()
    if given.run.retries_in_process:
        return Nothing()
    job = next((job for job in seen.live_previous_jobs if not job.deleting), None)
    if job is None:
        return lost_nodes.blocked(given) or Later(5.0)
    if not job.ended and (step := sidecars.end_pods(given, job)):
        return step
    if (rest := given.rest("previous", given.policy.previous_job_grace)) > 0:
        return Later(rest)
    return DeleteJob(job) if given.is_sure("previous") else Read()


def process_ended(given: Input) -> Step | None:
    """Reschedule a run that was to go on in its own process, whose Job is over: no poll returns it
    (docs/races.md, 26)."""
    seen = given.seen
    is_over = given.run.retries_in_process and (seen.previous_jobs or seen.gone_jobs)
    return Reschedule(given.run) if is_over else None


def process_out_of_sight(given: Input) -> Step | None:
    """Reschedule a run that was to go on in its own process and has no Job here, once it is certain
    that the process is gone."""
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
    """Start the TTL of an earlier Job, whose end needs no report any more."""
    job = unreported(given.seen.previous_jobs)
    return StartTtl(job) if job else None


def not_offered(given: Input) -> Step | None:
    """Leave a run to the next poll, and remember its refused claims until then (docs/races.md,
    7)."""
    record = given.seen.record
    if record.offered_at is not None:
        return None
    if record.not_before and (rest := (record.not_before - given.wall).total_seconds()) > 0:
        return Later(rest)
    return Nothing() if given.seen.previous_jobs or record.refused_claims else Forget()


def offer_too_old(given: Input) -> Step | None:
    """Drop an old offer: a claim on a state of long ago may run a finished run again
    (docs/races.md, 2)."""
    offered_at = given.seen.record.offered_at
    is_old = offered_at is not None and given.seen.now - offered_at > given.policy.state_age
    return Withdraw(late=True) if is_old else None


def claim(_: Input) -> Step:
    """Claim a run that is due, has a slot, and has nothing left in the cluster."""
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


def _annotated_state(job: Job) -> State:
    type_, _, rest = job.metadata.annotations[FINAL_STATE_ANNOTATION].partition("/")
    name, _, message = rest.partition("/")
    return State(type=type_, name=name, message=message or None)
