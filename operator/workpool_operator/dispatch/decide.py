"""The decision table: one snapshot in, one step out. Pure.

    Prefect state   current Job          step
    SCHEDULED       leftover alive       wait for its pods, delete it after a grace, then claim
    SCHEDULED       leftover suspended   keep it; once it is resumed claim, and adopt it (suspended)
    SCHEDULED       leftover we ended    restore the final state that its SIGTERM handler undid
    SCHEDULED       deadline exceeded    Crashed, the limit named
    SCHEDULED       retries in process, gone   have polls return it again
    SCHEDULED       none, offered        claim
    PENDING, mine   none                 create the Job; record its name; say why it waits (pending)
    PENDING, mine   suspended            say what it waits for, however long (suspended)
    PENDING, mine   infrastructure       back to SCHEDULED, so often as it may be (retries)
    PENDING, other  any                  leave alone
    PENDING/RUNNING Failed               Crashed: reason, exit code, remedy, last log lines (ended)
    PENDING/RUNNING Complete             Crashed after a grace: "exited 0 without reporting"
    RUNNING         suspended, no pods   AwaitingRetry
    PENDING/RUNNING node is lost         Crashed, though the pod stays (dead_nodes)
    PENDING/RUNNING gone                 Crashed after a grace and a confirming read: "vanished"
    PAUSED          ended, gone          as RUNNING where a pod is wanted; a suspended run: nothing
    CANCELLING      any                  delete the Job, then Cancelled
    RUNNING         a later pod waits    told; Crashed after the pending time-out (pending)
    any             only sidecars live   Crashed if nothing was reported; the pod's end (sidecars)
    final           alive                after a grace: annotate with the state, then delete (final)
    unknown (404)   ours                 delete

Nothing destructive is decided on a state that was read before the fact that asks for it. Each rule
that answers a measured trap cites it, by its number in docs/races.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from workpool_operator.dispatch import dead_nodes, sidecars, suspended
from workpool_operator.dispatch.ended import ended, gone, is_sure, unreported
from workpool_operator.dispatch.final import final
from workpool_operator.dispatch.observed import Observed
from workpool_operator.dispatch.pending import later_pod, pending
from workpool_operator.dispatch.policy import Policy
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
    ReadHistory,
    RecordJob,
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


def decide(seen: Observed, policy: Policy, *, wall: datetime) -> Step:
    """The one next step for the run; `wall` is the time of day for Kubernetes' timestamps."""
    if seen.stale:
        return Read()
    if seen.missing:
        return _unknown(seen, policy)
    if seen.run is None:
        return Forget() if _settled(seen) else Read()
    if seen.phantom:
        return UndoClaim()
    if seen.run.final:
        return final(seen, policy, wall)
    return _ROWS[seen.run.state_type](seen, policy, wall)


def _settled(seen: Observed) -> bool:
    """Nobody asks for the run and all that is left of it are Jobs whose end is reported."""
    unsettled = [job for job in seen.jobs if not job.ended or unreported((job,))]
    return seen.offered_at is None and not seen.live_pods and not unsettled


def _unknown(seen: Observed, policy: Policy) -> Step:
    """Prefect does not know the run: its Jobs have nobody to work for."""
    jobs = [job for job in seen.jobs if job.name not in seen.strange]
    if not jobs:
        return Forget()
    if not is_sure(seen, policy, "known"):
        return Read()
    return next((DeleteJob(job) for job in jobs if not job.deleting), Nothing())


def _scheduled(seen: Observed, policy: Policy, wall: datetime) -> Step:
    run = seen.run
    assert run is not None
    if run.state is None and (seen.leftovers or seen.ended_by_us):
        return Read()  # a poll does not tell the state's message
    if undone := _undone(seen):
        return Restore(_annotated_state(undone)) if seen.age <= policy.state_age else Read()
    if exceeded := _over_deadline(seen):
        return Crash(verdict.ended(exceeded, ())) if seen.age <= policy.state_age else Read()
    if step := suspended.scheduled(seen, policy, wall):
        return step
    if seen.overlapping:
        return _outwait(seen, policy, wall)
    if run.retries_in_process and (seen.leftovers or seen.gone_jobs):
        return Reschedule()
    if run.retries_in_process and seen.recorded_name and seen.offered_at is None:
        return _retrying(seen, policy)
    if job := unreported(seen.leftovers):
        return StartTtl(job)
    if seen.offered_at is None:
        return _unoffered(seen, wall)
    return Claim() if seen.now - seen.offered_at <= policy.state_age else Withdraw(late=True)


def _retrying(seen: Observed, policy: Policy) -> Step:
    """It waits to go on in its own process, and no Job of it is here: is that process gone?"""
    if seen.claim is None:
        return Nothing() if seen.disowned else ReadHistory()
    if (rest := policy.vanish_grace - seen.held("alone")) > 0:
        return Later(rest)
    if not seen.confirmed_gone:
        return ConfirmGone(seen.recorded_name)
    return Reschedule() if is_sure(seen, policy, "alone") else Read()


def _unoffered(seen: Observed, wall: datetime) -> Step:
    """A poll offers it when it is due; until then refused claims are remembered (docs/races.md,
    7)."""
    if seen.not_before and (rest := (seen.not_before - wall).total_seconds()) > 0:
        return Later(rest)
    return Nothing() if seen.leftovers or seen.refused_claims else Forget()


def _outwait(seen: Observed, policy: Policy, wall: datetime) -> Step:
    """The last attempt's pod still runs, or could: two must not overlap (docs/races.md, 12)."""
    assert seen.run is not None
    if seen.offered_at is not None:
        return Withdraw()
    if seen.run.retries_in_process:
        return Nothing()
    job = next((job for job in seen.live_leftovers if not job.deleting), None)
    if job is None:
        return dead_nodes.blocking(seen, policy, wall) or Later(5.0)
    if not job.ended and (step := sidecars.end(seen, job, policy)):
        return step
    if (rest := policy.leftover_grace - seen.held("leftover")) > 0:
        return Later(rest)
    return DeleteJob(job) if is_sure(seen, policy, "leftover") else Read()


def _running(seen: Observed, policy: Policy, wall: datetime) -> Step:
    if seen.current is None:
        if seen.claim is None:
            return Nothing() if seen.disowned else ReadHistory()
        return gone(seen, policy)
    if seen.recorded_name != seen.current.name:
        return RecordJob(seen.current.name)
    if seen.current.ended:
        return ended(seen, seen.current, policy)
    preempted = suspended.running(seen, seen.current, policy)
    if step := preempted or dead_nodes.overdue(seen, policy, wall):
        return step
    unreported_end = sidecars.unreported(seen, seen.current, policy)
    return unreported_end or later_pod(seen, seen.current, policy, wall)


def _paused(seen: Observed, policy: Policy, wall: datetime) -> Step:
    """A blocking pause needs its pod; a suspended run has none and wants none."""
    assert seen.run is not None
    if seen.run.state is None:
        return Read()
    if seen.run.state.state_details.pause_reschedule or seen.run.state_name == "Suspended":
        if job := unreported(seen.jobs):
            return StartTtl(job)
        live = next((job for job in seen.jobs if not (job.ended or job.deleting)), None)
        return (sidecars.end(seen, live, policy) if live else None) or Nothing()
    return _running(seen, policy, wall)


def _cancelling(seen: Observed, policy: Policy, wall: datetime) -> Step:
    run = seen.run
    assert run is not None
    if seen.current is None and seen.claim is None:
        return Nothing() if seen.disowned else ReadHistory()
    live = [job for job in seen.jobs if not job.ended]
    started = run.start_time is not None and seen.started
    over = bool(seen.outlived) and seen.fresh("outlived")  # only sidecars are left
    if live and started and not over and (rest := policy.cancel_grace - seen.held("known")) > 0:
        return Later(rest)
    if seen.age > policy.state_age:
        return Read()
    if deletable := [job for job in live if not job.deleting]:
        return DeleteJob(deletable[0])
    by_us = "Cancelled by the operator: the run's own process did not end by itself."
    return Cancel(by_us if started else "Cancelled before it started.")


def _undone(seen: Observed) -> Job | None:
    """The Job that we ended, where its pod then rescheduled its finished run. Only the pod's
    SIGTERM handler writes AwaitingRetry without a message; a person's retry has one."""
    run = seen.run
    if run is None or run.state_name != "AwaitingRetry" or (run.state and run.state.message):
        return None
    return seen.ended_by_us


def _annotated_state(job: Job) -> State:
    type_, _, rest = job.metadata.annotations[FINAL_STATE_ANNOTATION].partition("/")
    name, _, message = rest.partition("/")
    return State(type=type_, name=name, message=message or None)


def _over_deadline(seen: Observed) -> Job | None:
    """The recorded Job ran into activeDeadlineSeconds, and its SIGTERM handler rescheduled the run,
    which would run into it again and again (docs/races.md, 11)."""
    for job in seen.leftovers:
        if job.exceeded_deadline and job.name == seen.recorded_name and unreported((job,)):
            return job
    return None


_Row = Callable[[Observed, Policy, datetime], Step]
_ROWS: dict[str, _Row] = {
    "SCHEDULED": _scheduled,
    "PENDING": pending,
    "RUNNING": _running,
    "PAUSED": _paused,
    "CANCELLING": _cancelling,
}
