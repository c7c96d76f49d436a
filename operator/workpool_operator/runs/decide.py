"""The decision table: one snapshot in, one action out. Pure.

Before any rule:

    changed, or not read    read the run; forget it if only Jobs with reported ends are left of it
    unknown (404)           delete its Jobs, except for those of another server or pool
    stray claim             restore the state that a late claim of ours overwrote

The rules of each state, in order; the first that applies decides:

    SCHEDULED   message_unread           read the state's message, which a poll omits
                end_overwritten          restore the final state that a SIGTERM handler undid
                over_deadline            Crashed, the limit named
                cancelled.scheduled      CANCELLING, if the binding cancels its runs
                suspended.kept           keep the Job and its place in the queue; log it once
                suspended.resumed        claim the run; the claim adopts the Job
                overlapping              wait for the last attempt's pods; delete its Job in time
                process_ended            have polls return a run that was to retry itself
                process_vanished         the same, once a GET confirms that its Job was deleted
                previous_job_unreported  start its TTL
                not_offered              leave the run to a poll, at once if it is due again
                offer_too_old            drop the offer; have a poll make another
                claims_held              the same while Jobs are refused, or the binding deleted
                claim                    claim the run
    PENDING     unclaimed                look for our claim; without one do nothing
                cancelled.claimed        CANCELLING, if the binding cancels its runs
                lease_due                renew the deployment's concurrency slot
      no Job    job_vanished             Crashed after a grace and a live GET: "vanished"
                suspended.claimed        adopt an earlier Job that continues
                job_impossible           deployment deleted: Cancelled; else Crashed with the fix
                refused_too_long         Crashed after the pending time-out
                quota_probed             SCHEDULED, if another run waits for the exhausted quota
                refusal_unnamed          name the sub-state by the API server's reason
                refused_just_now         wait to try again
                asked_to_wait            wait as the API server asked for all Jobs
                create                   create the Job
      Job       unrecorded               write infrastructure_pid
                ended.retry              ended by the infrastructure: SCHEDULED, a few times
                ended.job_ended          Crashed: reason, exit code, remedy, last log lines
                ended.pod_overdue        Crashed, though the pod stays
                suspended.pending        name the sub-state by what the Job waits for
                ended.flow_ended         only sidecars run: Crashed if nothing was reported
                under_way                wait for events
                not_started              name the sub-state; Crashed after the pending time-out
    RUNNING     job_missing              look for our claim; Crashed if the Job vanished
                unrecorded               write infrastructure_pid
                ended.job_ended          Crashed: reason, exit code, remedy, last log lines
                cancelled.running        CANCELLING, if the binding cancels its runs
                suspended.running        SCHEDULED: AwaitingRetry
                ended.pod_overdue        Crashed, though the pod stays
                ended.flow_ended         only sidecars run: Crashed if nothing was reported
                replacement_pod          report what it waits for; Crashed after the time-out
    PAUSED      pause_unread             read whether the pause keeps its pod
                run_suspended            start the TTL; end the sidecars; else nothing
                                         then as RUNNING
    CANCELLING  unknown_run              look for our claim; without one do nothing
                may_end_itself           wait for the run's own process
                read_long_ago            read the run
                delete_job               delete its Jobs
                cancel                   Cancelled
    final       job_active               let it finish; annotate it with the state, delete it
                job_unreported           start its TTL
                objects_terminating      wait for events
                last_report_unread       read the run
                nothing_left             forget the run

Nothing destructive is decided on a state that was read before the fact that requires it. A rule
against a measured race cites its number in docs/races.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from workpool_operator.runs.actions import (
    Action,
    DeleteJob,
    ForgetRun,
    NoAction,
    RefreshRun,
    RevertClaim,
)
from workpool_operator.runs.rules import Input, Rule, first
from workpool_operator.runs.rules.ended import unreported
from workpool_operator.runs.rules.final import FINAL
from workpool_operator.runs.rules.pending import PENDING
from workpool_operator.runs.rules.running import CANCELLING, PAUSED, RUNNING
from workpool_operator.runs.rules.scheduled import SCHEDULED
from workpool_operator.runs.settings import Timeouts
from workpool_operator.runs.snapshot import Snapshot

# By the type of a run's state; a final one has FINAL.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "SCHEDULED": SCHEDULED,
    "PENDING": PENDING,
    "RUNNING": RUNNING,
    "PAUSED": PAUSED,
    "CANCELLING": CANCELLING,
}


def decide(
    snapshot: Snapshot,
    timeouts: Timeouts,
    *,
    wall: datetime,
    prefect_ahead: timedelta = timedelta(),
) -> Action:
    """Return the next action for the run; `wall` is the current time by the clock of Kubernetes,
    and that of Prefect is `prefect_ahead` of it."""
    record = snapshot.record
    if record.is_stale:
        return RefreshRun()
    if record.missing:
        return _unknown(snapshot, timeouts)
    if record.run is None:
        return ForgetRun() if _is_settled(snapshot) else RefreshRun()
    if record.stray_claim:
        return RevertClaim()
    rules = FINAL if record.run.final else RULES[record.run.state_type]
    given = Input(record.run, snapshot, timeouts, wall, prefect_ahead)
    return first(rules, given)


def _is_settled(snapshot: Snapshot) -> bool:
    """Return whether the run is not offered and only Jobs with a reported end are left of it."""
    unsettled = [job for job in snapshot.jobs if not job.ended or unreported((job,))]
    return snapshot.record.offered_at is None and not snapshot.live_pods and not unsettled


def _unknown(snapshot: Snapshot, timeouts: Timeouts) -> Action:
    """Delete the Jobs of a run that Prefect does not know."""
    jobs = [job for job in snapshot.jobs if job.name not in snapshot.foreign_jobs]
    if not jobs:
        return ForgetRun()
    if not (snapshot.read_since("known") and snapshot.age <= timeouts.state_age):
        return RefreshRun()
    return next((DeleteJob(job) for job in jobs if not job.deleting), NoAction())
