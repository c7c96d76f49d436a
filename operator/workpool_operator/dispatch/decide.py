"""The decision table: one snapshot in, one action out. Pure.

    Prefect state   current Job          action
    SCHEDULED       leftover alive       wait for its pods, delete it after a grace, then claim
    SCHEDULED       leftover we ended    restore the final state that its SIGTERM handler undid
    SCHEDULED       deadline exceeded    Crashed, the limit named
    SCHEDULED       none, offered        claim
    PENDING, mine   none                 create the Job; record its name; say why it waits
    PENDING, other  any                  leave alone
    PENDING/RUNNING Failed               Crashed: reason, exit code, remedy, last log lines
    PENDING/RUNNING Complete             Crashed after a grace: "exited 0 without reporting"
    PENDING/RUNNING gone                 Crashed after a grace and a confirming read: "vanished"
    PAUSED          ended                Crashed where a pod is wanted; a suspended run: nothing
    CANCELLING      any                  delete the Job, then Cancelled
    final           alive                after a grace: annotate with the state, then delete
    unknown (404)   ours                 delete

Nothing destructive is decided on a state that was read before the fact that asks for it. Each rule
that answers a measured trap names its number in the study of races.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from workpool_operator.dispatch.observed import Observed
from workpool_operator.jobs import verdict
from workpool_operator.jobs.verdict import End, Wait
from workpool_operator.kube.views import FINAL_STATE_ANNOTATION, Job
from workpool_operator.prefect_api.views import State

# Sub-states that are named before the Job exists: under them, too, a missing Job is to be created.
BEFORE_JOB = frozenset({"Pending", "QuotaExceeded", "JobRefused"})


@dataclass(frozen=True, slots=True)
class Policy:
    """Graces and time-outs, in seconds."""

    poll_age: float = 2.0
    report_grace: float = 10.0
    vanish_grace: float = 5.0
    final_grace: float = 30.0
    cancel_grace: float = 60.0
    leftover_grace: float = 60.0
    podless_grace: float = 2.0
    creating_grace: float = 15.0
    diagnosis_age: float = 10.0
    lease_renewal: float = 100.0
    pending_timeout: int = 600


@dataclass(frozen=True, slots=True)
class Nothing:
    """No rule applies: the next event decides."""


@dataclass(frozen=True, slots=True)
class Forget:
    """The run is over and nothing of it is left to do."""


@dataclass(frozen=True, slots=True)
class Later:
    """Look again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """Ask Prefect for the run."""


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Ask Prefect for the run's states, to learn whether the claim is ours."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The offer is too old to claim on: wait for the next poll (races.md 2)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Propose Pending with our transition id."""


@dataclass(frozen=True, slots=True)
class UndoClaim:
    """Our claim was accepted on a run that was not SCHEDULED: put back what it wrote over."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Propose a final state again that something wrote over."""

    state: State


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the Job of the run's claim."""


@dataclass(frozen=True, slots=True)
class RecordJob:
    """Write `infrastructure_pid`."""

    name: str


@dataclass(frozen=True, slots=True)
class Explain:
    """Name the sub-state by what the run waits for."""

    wait: Wait


@dataclass(frozen=True, slots=True)
class Diagnose:
    """Read the Events of a Job without pods, or of a pod without containers."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class RenewLease:
    """Keep the deployment's concurrency slot while the pod is pending."""


@dataclass(frozen=True, slots=True)
class Crash:
    """Propose Crashed; `with_logs` adds the last log lines of the pods that still exist."""

    end: End
    with_logs: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Propose Cancelled."""

    message: str


@dataclass(frozen=True, slots=True)
class ConfirmGone:
    """Look with a live GET whether the Job is really gone."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the Job; `final` is written on it first, for the pod may write over it."""

    job: Job
    final: State | None = None


@dataclass(frozen=True, slots=True)
class StartTtl:
    """The run's end is reported: let the Job's TTL begin (races.md 15)."""

    job: Job


@dataclass(frozen=True, slots=True)
class Reschedule:
    """Make a run that no poll returns poll-able again (races.md 26)."""


Action = (
    Nothing | Forget | Later | Read | ReadHistory | Withdraw | Claim | UndoClaim | Restore
    | CreateJob | RecordJob | Explain | Diagnose | RenewLease | Crash | Cancel | ConfirmGone
    | DeleteJob | StartTtl | Reschedule
)  # fmt: skip


def decide(seen: Observed, policy: Policy, *, wall: datetime) -> Action:
    """The one next step for the run; `wall` is the time of day for Kubernetes' timestamps."""
    if seen.missing:
        return _unknown(seen)
    if seen.run is None or seen.stale:
        return Read()
    if seen.phantom:
        return UndoClaim()
    if seen.run.final:
        return _final(seen, policy)
    return _ROWS[seen.run.state_type](seen, policy, wall)


def _unknown(seen: Observed) -> Action:
    """Prefect does not know the run: its Jobs have nobody to work for."""
    if not seen.fresh("known"):
        return Read()
    jobs = [job for job in _all_jobs(seen) if not job.deleting]
    return DeleteJob(jobs[0]) if jobs else Forget() if not _all_jobs(seen) else Nothing()


def _scheduled(seen: Observed, policy: Policy, wall: datetime) -> Action:
    run = seen.run
    assert run is not None
    if seen.leftovers and run.state is None:  # a poll does not tell the state's message
        return Read()
    if job := _undone(seen):
        return Restore(_annotated_state(job))
    if job := _over_deadline(seen):
        return Crash(verdict.ended(job, ()))
    if live := seen.live_leftovers():
        return _outwait(seen, live, policy)
    if run.retries_in_process and seen.leftovers:
        return Reschedule()
    if job := _unreported(seen.leftovers):
        return StartTtl(job)
    if seen.offered_at is None:
        return Nothing() if seen.leftovers else Forget()
    return Claim() if seen.now - seen.offered_at <= policy.poll_age else Withdraw()


def _outwait(seen: Observed, live: tuple[Job, ...], policy: Policy) -> Action:
    """The last attempt's pod still runs, or could: two must not overlap (races.md 12)."""
    deletable = [job for job in live if not job.deleting]
    if seen.run and seen.run.retries_in_process:
        return Nothing()
    if seen.offered_at is not None:
        return Withdraw()
    if deletable and seen.held("leftover") >= policy.leftover_grace:
        return DeleteJob(deletable[0])
    return Later(policy.leftover_grace - seen.held("leftover") if deletable else 5.0)


def _pending(seen: Observed, policy: Policy, wall: datetime) -> Action:
    if seen.claim is None:
        return Nothing() if seen.disowned else ReadHistory()
    if seen.current is None:
        return _without_job(seen, policy, wall)
    if seen.recorded_name != seen.current.name:
        return RecordJob(seen.current.name)
    if seen.current.ended:
        return _ended(seen, seen.current, policy)
    if seen.started:
        return Nothing()
    if seen.claim.lease_id and seen.now - seen.lease_renewed_at >= policy.lease_renewal:
        return RenewLease()
    return _waiting(seen, seen.current, policy, wall)


def _without_job(seen: Observed, policy: Policy, wall: datetime) -> Action:
    assert seen.run is not None
    if seen.recorded_name == seen.current_name or seen.run.state_name not in BEFORE_JOB:
        return _gone(seen, policy)
    if seen.refusal is None:
        return CreateJob()
    if _pending_for(seen, wall) >= policy.pending_timeout:
        return _give_up(seen, seen.refusal, policy)
    if seen.refusal.category != seen.run.state_name:
        return Explain(seen.refusal)
    rest = seen.refused_until - seen.now
    return Later(rest) if rest > 0 else CreateJob()


def _waiting(seen: Observed, job: Job, policy: Policy, wall: datetime) -> Action:
    """The Job exists and no container has started yet."""
    if job.spec.suspend:
        return Nothing()
    wait = verdict.waiting(seen.pods) or seen.diagnosis
    if wait and wait.hopeless:
        return _give_up(seen, wait, policy)
    elapsed = _pending_for(seen, wall)
    if elapsed >= policy.pending_timeout:
        return _give_up(seen, wait, policy)
    assert seen.run is not None
    if wait and wait.category != seen.run.state_name:
        return Explain(wait)
    return _diagnosis(seen, job, policy) or Later(_next_look(seen, policy, elapsed))


def _diagnosis(seen: Observed, job: Job, policy: Policy) -> Action | None:
    """Events say what the objects' own status does not: no pod at all, or no volume for it."""
    if seen.now - seen.diagnosed_at < policy.diagnosis_age:
        return None
    if seen.held("podless") >= policy.podless_grace:
        return Diagnose("Job", job.name)
    if seen.held("creating") >= policy.creating_grace:
        return Diagnose("Pod", seen.pods[-1].metadata.name)
    return None


def _next_look(seen: Observed, policy: Policy, elapsed: float) -> float:
    soon = policy.podless_grace if not seen.pods else policy.diagnosis_age
    return max(0.2, min(soon, policy.pending_timeout - elapsed))


def _give_up(seen: Observed, wait: Wait | None, policy: Policy) -> Action:
    if not seen.fresh("known") or seen.now - seen.read_at > policy.diagnosis_age:
        return Read()
    if wait and wait.hopeless:
        return Crash(End(f"The run can never start. {wait.category}: {wait.message}"))
    return Crash(verdict.never_started(wait, seconds=policy.pending_timeout))


def _running(seen: Observed, policy: Policy, wall: datetime) -> Action:
    if seen.current:
        return _ended(seen, seen.current, policy) if seen.current.ended else Nothing()
    if seen.claim is None:
        return Nothing() if seen.disowned or not seen.recorded_name else ReadHistory()
    return _gone(seen, policy)


def _ended(seen: Observed, job: Job, policy: Policy) -> Action:
    """The Job is over and the run, as far as we know, is not."""
    if not seen.fresh("ended"):
        return Read()
    if job.failed:
        return Crash(verdict.ended(job, seen.pods), with_logs=True)
    if (rest := policy.report_grace - seen.held("ended")) > 0:
        return Later(rest)
    if seen.now - seen.read_at > policy.poll_age:
        return Read()
    return Crash(verdict.ended(job, seen.pods), with_logs=True)


def _gone(seen: Observed, policy: Policy) -> Action:
    """There was a Job, and there is none (caches may lag: a live GET has the last word)."""
    if (rest := policy.vanish_grace - seen.held("gone")) > 0:
        return Later(rest)
    if not seen.confirmed_gone:
        return ConfirmGone(seen.current_name)
    if seen.now - seen.read_at > policy.poll_age:
        return Read()
    return Crash(verdict.vanished(seen.current_name, seen.pods))


def _paused(seen: Observed, policy: Policy, wall: datetime) -> Action:
    """A blocking pause needs its pod; a suspended run has none and wants none."""
    assert seen.run is not None
    if seen.run.state is None:
        return Read()
    if seen.run.state.state_details.pause_reschedule or seen.run.state_name == "Suspended":
        job = _unreported(_all_jobs(seen))
        return StartTtl(job) if job else Nothing()
    if seen.current and seen.current.ended:
        return _ended(seen, seen.current, policy)
    return Nothing()


def _cancelling(seen: Observed, policy: Policy, wall: datetime) -> Action:
    run = seen.run
    assert run is not None
    live = [job for job in _all_jobs(seen) if not job.ended]
    if not live and not seen.leftovers and not seen.current and seen.claim is None:
        return Nothing() if seen.disowned else ReadHistory()
    started = run.start_time is not None
    if live and started and (rest := policy.cancel_grace - seen.held("known")) > 0:
        return Later(rest)
    if seen.now - seen.read_at > policy.poll_age:
        return Read()
    if deletable := [job for job in live if not job.deleting]:
        return DeleteJob(deletable[0])
    how = "its pod did not end by itself" if started else "before it started"
    return Cancel(f"Cancelled by the operator: {how}.")


def _final(seen: Observed, policy: Policy) -> Action:
    """The run is over: no pod may outlive it and write over its end (races.md 10)."""
    run = seen.run
    assert run is not None
    live = [job for job in _all_jobs(seen) if not job.ended and not job.deleting]
    if live:
        if seen.started and (rest := policy.final_grace - seen.held("known")) > 0:
            return Later(rest)
        if run.state is None or seen.now - seen.read_at > policy.poll_age:
            return Read()
        return DeleteJob(live[0], final=run.state)
    if job := _unreported(_all_jobs(seen)):
        return StartTtl(job)
    return Nothing() if any(not job.ended for job in _all_jobs(seen)) else Forget()


def _all_jobs(seen: Observed) -> tuple[Job, ...]:
    return (seen.current, *seen.leftovers) if seen.current else seen.leftovers


def _unreported(jobs: tuple[Job, ...]) -> Job | None:
    """A Job that ended and whose TTL has not begun: that is how we mark a reported end."""
    waiting = (job for job in jobs if job.ended and job.spec.ttl_seconds_after_finished is None)
    return next((job for job in waiting if not job.deleting), None)


def _undone(seen: Observed) -> Job | None:
    """A leftover that we ended, whose pod then rescheduled its finished run. Only the pod's
    SIGTERM handler writes AwaitingRetry without a message; a person's retry has one."""
    run = seen.run
    if run is None or run.state_name != "AwaitingRetry" or (run.state and run.state.message):
        return None
    return next(
        (j for j in seen.leftovers if FINAL_STATE_ANNOTATION in j.metadata.annotations), None
    )


def _annotated_state(job: Job) -> State:
    type_, _, rest = job.metadata.annotations[FINAL_STATE_ANNOTATION].partition("/")
    name, _, message = rest.partition("/")
    return State(type=type_, name=name, message=message or None)


def _over_deadline(seen: Observed) -> Job | None:
    """The recorded Job ran into activeDeadlineSeconds, and its SIGTERM handler rescheduled the run,
    which would run into it again and again (races.md 11)."""
    for job in seen.leftovers:
        failed = job.condition("Failed")
        unreported = job.spec.ttl_seconds_after_finished is None
        if (
            failed
            and failed.reason == "DeadlineExceeded"
            and unreported
            and job.name == seen.recorded_name
        ):
            return job
    return None


def _pending_for(seen: Observed, wall: datetime) -> float:
    """Seconds since the claim, or since the Job was last un-suspended."""
    start = seen.claim.timestamp if seen.claim else None
    if seen.current and seen.current.status.start_time:
        start = max(start or _EPOCH, seen.current.status.start_time)
    return (wall - start).total_seconds() if start else 0.0


_EPOCH = datetime.fromtimestamp(0, UTC)
_Row = Callable[[Observed, Policy, datetime], Action]
_ROWS: dict[str, _Row] = {
    "SCHEDULED": _scheduled,
    "PENDING": _pending,
    "RUNNING": _running,
    "PAUSED": _paused,
    "CANCELLING": _cancelling,
}
