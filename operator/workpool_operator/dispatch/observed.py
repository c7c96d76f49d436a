"""Both caches and the run's last known state, joined into one frozen snapshot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from workpool_operator.dispatch.ledger import Claim, Record
from workpool_operator.jobs import names
from workpool_operator.jobs.verdict import Wait
from workpool_operator.kube.views import Job, Pod
from workpool_operator.prefect_api.views import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is known of one run at `now` (seconds, monotonic).

    `current` is the Job of the run's current claim; `leftovers` are its other Jobs, which prove
    nothing about the run (races.md 8). `pods` are the current Job's, gone ones included.
    """

    run_id: UUID
    run: Run | None = None
    missing: bool = False
    stale: bool = False
    read_at: float = float("-inf")
    offered_at: float | None = None
    claim: Claim | None = None
    disowned: bool = False
    phantom: bool = False
    current_name: str = ""
    current: Job | None = None
    leftovers: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    live_pods: tuple[Pod, ...] = ()
    refusal: Wait | None = None
    refused_until: float = float("-inf")
    diagnosis: Wait | None = None
    diagnosed_at: float = float("-inf")
    lease_renewed_at: float = float("-inf")
    confirmed_gone: bool = False
    since: Mapping[str, float] = field(default_factory=dict)
    now: float = 0.0

    @property
    def recorded_name(self) -> str:
        """The Job's name in `infrastructure_pid` (`namespace:job-name`), "" where there is none."""
        return recorded_job(self.run)

    @property
    def started(self) -> bool:
        """A container of the current Job has run."""
        return any(pod.started for pod in self.pods)

    def live_leftovers(self) -> tuple[Job, ...]:
        """Leftovers that run, may still run, or are suspended: two pods must not overlap."""
        live = {pod.job_name for pod in self.live_pods}
        return tuple(job for job in self.leftovers if not job.ended or job.name in live)

    def held(self, fact: str) -> float:
        """For how many seconds the fact has been seen to hold."""
        return self.now - self.since.get(fact, self.now)

    def fresh(self, fact: str) -> bool:
        """The run's state was heard after the fact was first seen."""
        return self.read_at >= self.since.get(fact, self.now)


def recorded_job(run: Run | None) -> str:
    """The name part of a run's `infrastructure_pid`."""
    return ((run.infrastructure_pid if run else None) or "").rpartition(":")[2]


def observe(
    run_id: UUID,
    record: Record,
    *,
    jobs: Sequence[Job],
    pods: Sequence[Pod],
    departed: Sequence[Pod],
    now: float,
) -> Observed:
    """The snapshot; `record.since` is brought up to date with the facts that hold now."""
    current_name = _current_name(record)
    current = next((job for job in jobs if _is_current(job, record, current_name)), None)
    name = current.name if current else current_name
    live = tuple(pod for pod in pods if not pod.ended)
    seen = Observed(
        run_id=run_id,
        run=record.run,
        missing=record.missing,
        stale=record.stale,
        read_at=record.read_at,
        offered_at=record.offered_at,
        claim=record.claim,
        disowned=record.disowned is not None and _state_id(record.run) == record.disowned,
        phantom=record.phantom,
        current_name=name,
        current=current,
        leftovers=tuple(job for job in jobs if job is not current),
        pods=tuple(pod for pod in (*departed, *pods) if pod.job_name == name),
        live_pods=live,
        refusal=record.refusal,
        refused_until=record.refused_until,
        diagnosis=record.diagnosis,
        diagnosed_at=record.diagnosed_at,
        lease_renewed_at=record.lease_renewed_at,
        confirmed_gone=bool(name) and record.job_confirmed_gone == name,
        since=record.since,
        now=now,
    )
    record.since = {fact: record.since.get(fact, now) for fact in _facts(seen)}
    return replace(seen, since=dict(record.since))


def _facts(seen: Observed) -> list[str]:
    """The facts whose age decides something."""
    live_current = any(pod.job_name == seen.current_name for pod in seen.live_pods)
    facts = {
        "known": True,
        "ended": seen.current is not None and seen.current.ended,
        "gone": bool(seen.current_name) and seen.current is None and not live_current,
        "leftover": bool(seen.live_leftovers()),
        "podless": seen.current is not None and not seen.current.ended and not seen.pods,
        "creating": seen.current is not None and bool(seen.pods) and not seen.started,
    }
    return [fact for fact, holds in facts.items() if holds]


def _current_name(record: Record) -> str:
    """The computed name while PENDING, the recorded one from RUNNING on."""
    run, claim = record.run, record.claim
    if run is None or run.state_type == "SCHEDULED":
        return ""
    if run.state_type == "PENDING" and claim:
        return names.job_name(run_name=run.name, run_id=run.id, claim_id=claim.id)
    return recorded_job(run)


def _is_current(job: Job, record: Record, name: str) -> bool:
    run, claim = record.run, record.claim
    if run is not None and run.state_type == "PENDING" and claim:
        return job.claim_id == str(claim.id)
    return bool(name) and job.name == name


def _state_id(run: Run | None) -> UUID | None:
    return run.state.id if run and run.state else None
