"""Reports to an observer how far runs are, for metrics and traces. Pure.

    due --> claimed --> job_created --> started --> running --> ended

It compares what is known of a run with what was known before, as `capacity` does, so that no path
through the rules can be forgotten. Only what this process saw begin is measured: of a run that a
restart finds halfway, it reports the end, but no delay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Concatenate, ParamSpec
from uuid import UUID

from workpool_operator.jobs.diagnosis import INFRASTRUCTURE_RETRY, OUTAGE
from workpool_operator.kube.models import Job, Pod
from workpool_operator.prefect_api.models import FINAL
from workpool_operator.runs.claims import Claim, ClaimedRun
from workpool_operator.runs.store import RunRecord

P = ParamSpec("P")

TRACE_ID = slice(3, 35)  # of a traceparent, after the version


class RunObserver:
    """Handles what happens to single runs; a subclass overrides what it needs. Delays are seconds.

    No method may block: the controller's loops call them.
    """

    def begun(self, claimed: ClaimedRun) -> None:
        """Handle that the run is under this claim: a new one, or one that a restart found."""

    def claimed(self, run_id: UUID, *, delay: float) -> None:
        """Handle that this process claimed the run, so long after it was due."""

    def claim_refused(self, run_id: UUID) -> None:
        """Handle that Prefect refused the claim."""

    def job_found(self, run_id: UUID, job: Job) -> None:
        """Handle that the Job of the run's claim is known."""

    def job_created(self, run_id: UUID, *, delay: float) -> None:
        """Handle that the run's Job exists, so long after the claim."""

    def job_refused(self, run_id: UUID, reason: str) -> None:
        """Handle that an attempt to create the Job failed."""

    def pod_found(self, run_id: UUID, pod: Pod) -> None:
        """Handle that this pod has started the flow container."""

    def started(self, run_id: UUID, *, delay: float, since_due: float) -> None:
        """Handle that the flow container has started, so long after the Job was created."""

    def running(self, run_id: UUID, *, delay: float) -> None:
        """Handle that the run reported Running, so long after its container had started."""

    def retried(self, run_id: UUID) -> None:
        """Handle that the run gets a new Job, because the infrastructure ended its pod."""

    def put_back(self, run_id: UUID) -> None:
        """Handle that the run is scheduled again: the claim is over."""

    def ended(self, run_id: UUID, state_type: str, reason: str) -> None:
        """Handle the end of a claimed run. `reason` is "" if the run reported it itself."""

    def attempt_failed(self, run_id: UUID, cause: str) -> None:
        """Handle that an action failed and is tried again; `cause` is the server that did not
        answer or refused it, "prefect" or "kubernetes", or "operator" for a bug."""

    def crash_reported(self, run_id: UUID, *, delay: float) -> None:
        """Handle that Prefect took a Crashed, so long after the run's Job was seen to end."""

    def forgotten(self, run_id: UUID) -> None:
        """Handle that nothing is left to do for the run."""

    def traceparent(self, run_id: UUID) -> str:
        """Return the W3C trace context of the run's claim, "" if the run is not traced."""
        return ""


def _by_each(
    method: Callable[Concatenate[RunObserver, P], None],
) -> Callable[Concatenate[RunObservers, P], None]:
    """Return a method that calls this one of each observer."""

    def call(self: RunObservers, /, *args: P.args, **kwargs: P.kwargs) -> None:
        for each in self._observers:
            getattr(each, method.__name__)(*args, **kwargs)

    return call


class RunObservers(RunObserver):
    """Has each of several observers handle everything."""

    def __init__(self, *observers: RunObserver) -> None:
        self._observers = observers

    begun = _by_each(RunObserver.begun)
    claimed = _by_each(RunObserver.claimed)
    claim_refused = _by_each(RunObserver.claim_refused)
    job_found = _by_each(RunObserver.job_found)
    job_created = _by_each(RunObserver.job_created)
    job_refused = _by_each(RunObserver.job_refused)
    pod_found = _by_each(RunObserver.pod_found)
    started = _by_each(RunObserver.started)
    running = _by_each(RunObserver.running)
    retried = _by_each(RunObserver.retried)
    put_back = _by_each(RunObserver.put_back)
    ended = _by_each(RunObserver.ended)
    attempt_failed = _by_each(RunObserver.attempt_failed)
    crash_reported = _by_each(RunObserver.crash_reported)
    forgotten = _by_each(RunObserver.forgotten)

    def traceparent(self, run_id: UUID) -> str:
        """Return that of the one that traces."""
        return next(filter(None, (each.traceparent(run_id) for each in self._observers)), "")


@dataclass(slots=True)
class _Seen:
    """What was known of a run; a time is monotonic, None if this process did not see it happen."""

    claim: UUID | None = None
    claimed_at: float | None = None
    due_delay: float = 0.0
    job: str = ""
    created_at: float | None = None
    started: bool = False
    started_at: float | None = None
    running: bool = False
    over_at: float | None = None
    ended: bool = False
    refused_claims: int = 0
    refusals: int = 0
    faulty: bool = False


class Progress:
    """Reports to the observer; `update` is called after each change of a run."""

    def __init__(self, observer: RunObserver) -> None:
        self._observer = observer
        self._seen: dict[UUID, _Seen] = {}

    def update(
        self,
        run_id: UUID,
        record: RunRecord | None,
        jobs: Sequence[Job],
        pods: Sequence[Pod],
        *,
        now: float,
        wall: datetime,
    ) -> None:
        """Report what is new. `now` is monotonic, `wall` is the time of the Prefect server."""
        if record is None:
            if self._seen.pop(run_id, None):
                self._observer.forgotten(run_id)
            return
        seen = self._seen.get(run_id) or self._begin(run_id, None, record)
        if record.state_type in FINAL:
            self._note_end(run_id, record, seen, now)
            return
        if record.state_type == "SCHEDULED":
            self._note_scheduled(run_id, record, seen)
            return
        if (claim := record.claim) is None:
            return
        if claim.id != seen.claim:
            seen = self._begin(run_id, claim, record)
            if record.claimed_run:
                self._observer.begun(record.claimed_run)
        self._note_claim(run_id, record, claim, seen, now)
        self._note_refusals(run_id, record, seen)
        self._note_job(run_id, claim, jobs, seen, now)
        self._note_start(run_id, pods, seen, now)
        self._note_over(jobs, pods, seen, now)
        self._note_running(run_id, record, seen, now, wall)

    def _begin(self, run_id: UUID, claim: Claim | None, record: RunRecord) -> _Seen:
        """Forget what was known of the run before this claim."""
        seen = self._seen[run_id] = _Seen(claim.id if claim else None)
        seen.refused_claims = record.refused_claims
        return seen

    def _note_scheduled(self, run_id: UUID, record: RunRecord, seen: _Seen) -> None:
        if seen.claim is not None:
            if record.run and record.run.state_name == INFRASTRUCTURE_RETRY:
                self._observer.retried(run_id)
            self._observer.put_back(run_id)
            seen = self._begin(run_id, None, record)
        if record.refused_claims > seen.refused_claims:
            self._observer.claim_refused(run_id)
        seen.refused_claims = record.refused_claims

    def _note_claim(
        self, run_id: UUID, record: RunRecord, claim: Claim, seen: _Seen, now: float
    ) -> None:
        if seen.claimed_at is not None or not record.claimed_here or seen.job:
            return
        seen.claimed_at = now
        if claim.timestamp and claim.scheduled_time:
            delay = (claim.timestamp - claim.scheduled_time).total_seconds()
            seen.due_delay = max(0.0, delay)
        self._observer.claimed(run_id, delay=seen.due_delay)

    def _note_refusals(self, run_id: UUID, record: RunRecord, seen: _Seen) -> None:
        if record.refusals > seen.refusals:
            reason = record.refusal.category if record.refusal else OUTAGE
            self._observer.job_refused(run_id, reason)
        seen.refusals = record.refusals
        if record.job_fault and not seen.faulty:
            self._observer.job_refused(run_id, record.job_fault.reason.value)
        seen.faulty = record.job_fault is not None

    def _note_job(
        self, run_id: UUID, claim: Claim, jobs: Sequence[Job], seen: _Seen, now: float
    ) -> None:
        if seen.job:
            return
        job = next((job for job in jobs if job.claim_id == str(claim.id)), None)
        if job is None:
            return
        seen.job = job.name
        self._observer.job_found(run_id, job)
        if seen.claimed_at is not None:
            seen.created_at = now
            self._observer.job_created(run_id, delay=now - seen.claimed_at)

    def _note_over(self, jobs: Sequence[Job], pods: Sequence[Pod], seen: _Seen, now: float) -> None:
        """Note since when the Job or the flow in it has ended: a pod ends before its Job, and a Job
        can replace its pod."""
        if not seen.job:
            return
        job = next((job for job in jobs if job.name == seen.job), None)
        own = [pod for pod in pods if pod.job_name == seen.job]
        is_over = job is None or job.ended or (bool(own) and all(pod.flow_ended for pod in own))
        if not is_over:
            seen.over_at = None
        elif seen.over_at is None:
            seen.over_at = now

    def _note_start(self, run_id: UUID, pods: Sequence[Pod], seen: _Seen, now: float) -> None:
        if seen.started or not seen.job:
            return
        own = (pod for pod in pods if pod.job_name == seen.job and pod.started)
        if (pod := next(own, None)) is None:
            return
        seen.started = True
        self._observer.pod_found(run_id, pod)
        if seen.created_at is not None and seen.claimed_at is not None:
            seen.started_at = now
            since_due = seen.due_delay + now - seen.claimed_at
            self._observer.started(run_id, delay=now - seen.created_at, since_due=since_due)

    def _note_running(
        self, run_id: UUID, record: RunRecord, seen: _Seen, now: float, wall: datetime
    ) -> None:
        if seen.running or record.state_type != "RUNNING":
            return
        seen.running = True
        reported = record.state.timestamp if record.state else None
        if seen.started_at is not None and reported:
            age = (wall - reported).total_seconds()
            self._observer.running(run_id, delay=max(0.0, now - age - seen.started_at))

    def _note_end(self, run_id: UUID, record: RunRecord, seen: _Seen, now: float) -> None:
        """Report once the end of a claimed run, or of one that the operator crashed although its
        own process had rescheduled it (docs/races.md, 11)."""
        if seen.ended:
            return
        seen.ended = True
        reason = record.crash_reason if record.state_type == "CRASHED" else ""
        if seen.claim is None and not reason:
            return
        self._observer.ended(run_id, record.state_type, reason)
        if reason and seen.over_at is not None:
            self._observer.crash_reported(run_id, delay=now - seen.over_at)
