"""Both caches and the run's last known state, joined into one frozen snapshot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from workpool_operator.dispatch.claims import Claim, recorded_job
from workpool_operator.dispatch.ledger import NEVER, Record
from workpool_operator.jobs import names, verdict
from workpool_operator.jobs.verdict import OUTAGE, Wait
from workpool_operator.kube.views import FINAL_STATE_ANNOTATION, Job, Pod
from workpool_operator.prefect_api.views import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """A run's objects in the cluster; the gone ones as they were last seen.

    `strange` are the names of Jobs that were made for another server or pool.
    """

    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    gone_jobs: tuple[Job, ...] = ()
    gone_pods: tuple[Pod, ...] = ()
    strange: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is known of one run at `now` (seconds, monotonic).

    `current` is the Job of the run's current claim; `leftovers` are its other Jobs, which prove
    nothing about the run (docs/races.md, 8). `pods` are the current Job's, gone ones included.
    `reported` is the pod and the category of the wait that was last reported of a RUNNING run.
    `pending_timeout` is the run's own, in seconds, where it has one.
    """

    run_id: UUID
    run: Run | None = None
    missing: bool = False
    stale: bool = False
    read_at: float = NEVER
    heard_at: float = NEVER
    offered_at: float | None = None
    not_before: datetime | None = None
    refused_claims: int = 0
    claim: Claim | None = None
    disowned: bool = False
    phantom: bool = False
    current_name: str = ""
    current: Job | None = None
    leftovers: tuple[Job, ...] = ()
    gone_jobs: tuple[Job, ...] = ()
    strange: frozenset[str] = frozenset()
    pods: tuple[Pod, ...] = ()
    live_pods: tuple[Pod, ...] = ()
    pending_timeout: int | None = None
    refusal: Wait | None = None
    refused_until: float = NEVER
    refused_alone: float = 0.0  # seconds for which the outage is of this run alone
    diagnosis: Wait | None = None
    diagnosed_at: float = NEVER
    reported: tuple[str, str] = ("", "")
    lease_renewed_at: float = NEVER
    confirmed_gone: bool = False
    told: str = ""
    workload: str | None = None
    infrastructure_retries: int | None = None
    kept: str = ""
    since: Mapping[str, float] = field(default_factory=dict)
    now: float = 0.0

    @property
    def recorded_name(self) -> str:
        """The Job's name in `infrastructure_pid`, "" where there is none."""
        return recorded_job(self.run)

    @property
    def started(self) -> bool:
        """The flow's container of some pod of the current Job has run."""
        return any(pod.started for pod in self.pods)

    @property
    def newest(self) -> Pod | None:
        """The pod of the current Job that was made last."""
        return verdict.newest(self.pods) if self.pods else None

    @property
    def outlived(self) -> tuple[Pod, ...]:
        """The pods that live although the flow's container in them has ended."""
        return tuple(pod for pod in self.live_pods if pod.flow_ended)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every Job of the run that exists."""
        return (self.current, *self.leftovers) if self.current else self.leftovers

    @property
    def ended_by_us(self) -> Job | None:
        """A Job that outlived its run and was ended for it: it says how the run had ended."""
        jobs = (*self.leftovers, *self.gone_jobs)
        return next((j for j in jobs if FINAL_STATE_ANNOTATION in j.metadata.annotations), None)

    @property
    def overlapping(self) -> bool:
        """An earlier Job runs, may still run, or is suspended: two pods must not overlap."""
        return bool(self.live_pods) or any(not job.ended for job in self.leftovers)

    @property
    def pods_live(self) -> bool:
        """A pod of the current Job has not ended."""
        return any(pod.job_name == self.current_name for pod in self.live_pods)

    @property
    def live_leftovers(self) -> tuple[Job, ...]:
        """The Jobs that overlap; none where the pods have outlived theirs."""
        live = {pod.job_name for pod in self.live_pods}
        return tuple(job for job in self.leftovers if not job.ended or job.name in live)

    def held(self, fact: str) -> float:
        """For how many seconds the fact has been seen to hold."""
        return self.now - self.since.get(fact, self.now)

    def fresh(self, fact: str) -> bool:
        """The run's state was asked for after the fact was first seen."""
        return self.read_at >= self.since.get(fact, self.now)

    @property
    def age(self) -> float:
        """Seconds since the run's state was heard."""
        return self.now - self.heard_at


def observe(run_id: UUID, record: Record, objects: Objects, *, now: float) -> Observed:
    """The snapshot; `record.since` is brought up to date with the facts that hold now."""
    computed = _current_name(record)
    current = next((job for job in objects.jobs if _is_current(job, record, computed)), None)
    name = current.name if current else _adopted_name(record, objects) or computed
    _note_facts(record, objects, current=current, name=name, now=now)
    return Observed(
        run_id=run_id,
        run=record.run,
        missing=record.missing,
        stale=record.stale,
        read_at=record.read_at,
        heard_at=record.heard_at,
        offered_at=record.offered_at,
        not_before=record.not_before,
        refused_claims=record.refused_claims,
        claim=record.claim,
        disowned=record.disowned is not None and _state_id(record.run) == record.disowned,
        phantom=record.phantom,
        current_name=name,
        current=current,
        leftovers=tuple(job for job in objects.jobs if job is not current),
        gone_jobs=objects.gone_jobs,
        strange=objects.strange,
        pods=_pods_of(name, objects, since=current.start_time if current else None),
        live_pods=tuple(pod for pod in objects.pods if not pod.ended),
        pending_timeout=current.pending_timeout if current else record.pending_timeout,
        refusal=record.refusal,
        refused_until=record.refused_until,
        refused_alone=now - record.alone_since if record.alone_since is not None else 0.0,
        diagnosis=_diagnosis(record),
        reported=record.reported,
        diagnosed_at=record.diagnosed_at,
        lease_renewed_at=record.lease_renewed_at,
        told=record.told,
        workload=record.workload,
        infrastructure_retries=record.infrastructure_retries,
        kept=record.kept,
        confirmed_gone=record.job_confirmed_gone == (name or recorded_job(record.run) or None),
        since=dict(record.since),
        now=now,
    )


def _note_facts(
    record: Record, objects: Objects, *, current: Job | None, name: str, now: float
) -> None:
    """Keep since when each fact holds whose age decides something; another Job starts afresh."""
    pods = _pods_of(name, objects, since=current.start_time if current else None)
    newest = verdict.newest(pods) if pods else None
    alive = current is not None and not current.ended
    suspended = current is not None and current.suspended
    waits = newest is not None and not (newest.started or newest.ended)
    live = [pod for pod in objects.pods if not pod.ended]
    leftovers = [job for job in objects.jobs if job is not current]
    facts = {
        "known": True,
        "ended": current is not None and current.ended,
        "gone": bool(name) and not current and not any(pod.job_name == name for pod in live),
        "leftover": bool(leftovers) and (bool(live) or any(_may_run(job) for job in leftovers)),
        "alone": not objects.jobs and not live,
        "suspended": suspended,
        "unsuspended": alive and not suspended,
        "leaving": any(pod.job_name == name and pod.deleting for pod in live),
        "preempted": suspended and not any(pod.job_name == name for pod in live),
        "refused": record.refusal is not None and record.refusal.category != OUTAGE,
        "podless": alive and not suspended and not pods,
        "creating": alive and waits,
        "settling": alive and newest is not None and newest.ended,
        "outlived": any(pod.flow_ended for pod in live),
    }
    if not suspended:
        record.workload = None
    if record.state_type == "SCHEDULED":
        record.kept = next((job.name for job in leftovers if job.suspended), record.kept)
    if name != record.observed_name:
        record.since, record.observed_name = {}, name
    record.since = {fact: record.since.get(fact, now) for fact, holds in facts.items() if holds}


def _may_run(job: Job) -> bool:
    return not job.ended and not job.suspended


def _pods_of(job_name: str, objects: Objects, *, since: datetime | None) -> tuple[Pod, ...]:
    """Those made since the Job was started, or last resumed: earlier ones are another attempt's."""
    mine = (pod for pod in (*objects.gone_pods, *objects.pods) if pod.job_name == job_name)
    return tuple(pod for pod in mine if not _is_before(pod.metadata.creation_timestamp, since))


def _is_before(time: datetime | None, other: datetime | None) -> bool:
    return time is not None and other is not None and time < other


def _adopted_name(record: Record, objects: Objects) -> str:
    """Of a Job that the claim adopted and that is gone: its name tells another claim."""
    claim = str(record.claim.id) if record.claim else None
    return next((job.name for job in objects.gone_jobs if job.claim_id == claim), "")


def _current_name(record: Record) -> str:
    """The recorded name where nothing contradicts it, else the one computed from the claim."""
    run, claim = record.run, record.claim
    if run is None or run.state_type == "SCHEDULED":
        return ""
    recorded = recorded_job(run)
    if claim is None:
        return "" if run.state_type == "PENDING" else recorded
    if claim.made(recorded, run_id=run.id):
        return recorded
    return names.job_name(run_name=run.name, run_id=run.id, claim_id=claim.id)


def _is_current(job: Job, record: Record, name: str) -> bool:
    if not name:
        return False
    return job.claim_id == str(record.claim.id) if record.claim else job.name == name


def _diagnosis(record: Record) -> Wait | None:
    """What Events said of what is waited for now, not of an earlier pod."""
    began = record.since.get("podless", record.since.get("creating"))
    return None if began is None or record.diagnosed_at < began else record.diagnosis


def _state_id(run: Run | None) -> UUID | None:
    return run.state.id if run and run.state else None
