"""Combines a run's record with its objects in the cluster, for the decision table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from workpool_operator.jobs import diagnosis, names
from workpool_operator.jobs.diagnosis import OUTAGE, WaitReason
from workpool_operator.kube.models import Job, Pod, RunObjects
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.claims import recorded_job
from workpool_operator.runs.store import Fact, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything known about one run at `now` (seconds, monotonic).

    `record` is up to date: put it back into the store. `current` is the Job of the run's
    current claim; `previous_jobs` are its other Jobs, which prove nothing about the run
    (docs/races.md, 8). `pods` are those of the current Job, also deleted ones. `foreign_jobs` are
    the names of Jobs that were created for another server or pool. `claims_held`: no further run is
    to be claimed now, because the API server would refuse its Job or the binding is being deleted.
    `cancels`: runs in flight are to be cancelled. `quota_probed`: another run waits until an
    exhausted quota has room. `creation_paused`: the seconds for which it wants no Jobs. `claiming`:
    other runs are about to be claimed, so that a report that can wait does.
    """

    run_id: UUID
    record: RunRecord
    current_name: str = ""
    current: Job | None = None
    previous_jobs: tuple[Job, ...] = ()
    deleted_jobs: tuple[Job, ...] = ()
    foreign_jobs: frozenset[str] = frozenset()
    pods: tuple[Pod, ...] = ()
    live_pods: tuple[Pod, ...] = ()
    claiming: bool = False
    now: float = 0.0
    claims_held: bool = False
    cancels: bool = False
    quota_probed: bool = False
    creation_paused: float = 0.0

    @property
    def run(self) -> Run | None:
        """The run as it was last read."""
        return self.record.run

    @property
    def recorded_name(self) -> str:
        """The Job name in `infrastructure_pid`; "" without one."""
        return recorded_job(self.record.run)

    @property
    def started(self) -> bool:
        """The flow container has started in a pod of the current Job."""
        return any(pod.started for pod in self.pods)

    @property
    def newest(self) -> Pod | None:
        """The current Job's most recently created pod."""
        return diagnosis.newest(self.pods) if self.pods else None

    @property
    def outlived(self) -> tuple[Pod, ...]:
        """The pods that are running although their flow container has ended."""
        return tuple(pod for pod in self.live_pods if pod.flow_ended)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every Job of the run that exists."""
        return (self.current, *self.previous_jobs) if self.current else self.previous_jobs

    @property
    def ended_by_us(self) -> Job | None:
        """A Job that the operator deleted because it outlived its run; its annotation has the run's
        final state."""
        jobs = (*self.previous_jobs, *self.deleted_jobs)
        return next((job for job in jobs if job.final_state), None)

    @property
    def overlapping(self) -> bool:
        """A previous Job is running, can still run, or is suspended: two pods must not overlap."""
        return bool(self.live_pods) or any(not job.ended for job in self.previous_jobs)

    @property
    def pods_live(self) -> bool:
        """A pod of the current Job has not ended."""
        return any(pod.job_name == self.current_name for pod in self.live_pods)

    @property
    def live_previous_jobs(self) -> tuple[Job, ...]:
        """The previous Jobs that overlap; a live pod whose Job was deleted has none."""
        live = {pod.job_name for pod in self.live_pods}
        return tuple(job for job in self.previous_jobs if not job.ended or job.name in live)

    @property
    def pending_timeout(self) -> int | None:
        """The run's own, in seconds, if it has one."""
        return self.current.pending_timeout if self.current else self.record.pending_timeout

    @property
    def only_this_refused_seconds(self) -> float:
        """Seconds for which the API server has accepted Jobs of other runs but not this run's."""
        since = self.record.only_this_refused_since
        return self.now - since if since is not None else 0.0

    @property
    def event_reason(self) -> WaitReason | None:
        """The reason from Events for the current wait, not for that of an earlier pod."""
        since, record = self.record.since, self.record
        began = since.get("podless", since.get("creating"))
        return None if began is None or record.events_read_at < began else record.event_reason

    @property
    def confirmed_deleted(self) -> bool:
        """A GET did not find the current Job, or the recorded one if none is current."""
        name = self.current_name or self.recorded_name
        return bool(name) and self.record.job_confirmed_deleted == name

    def seconds_since(self, fact: Fact) -> float:
        """Return for how many seconds the fact has held."""
        return self.now - self.record.since.get(fact, self.now)

    def read_since(self, fact: Fact) -> bool:
        """Return whether the run was read after the fact was first seen."""
        return self.record.read_at >= self.record.since.get(fact, self.now)

    @property
    def age(self) -> float:
        """Seconds since the server answered with the run's state."""
        return self.now - self.record.answered_at


def take_snapshot(
    run_id: UUID,
    record: RunRecord,
    objects: RunObjects,
    *,
    now: float,
    foreign_jobs: frozenset[str] = frozenset(),
    claims_held: bool = False,
    cancels: bool = False,
    quota_probed: bool = False,
    creation_paused: float = 0.0,
    claiming: bool = False,
) -> Snapshot:
    """Return the snapshot. Its record is the one to remember: it has the time at which each fact
    was first seen."""
    computed = _current_name(record)
    current = next((job for job in objects.jobs if _is_current(job, record, computed)), None)
    name = current.name if current else _adopted_name(record, objects) or computed
    snapshot = Snapshot(
        run_id=run_id,
        record=record,
        current_name=name,
        current=current,
        previous_jobs=tuple(job for job in objects.jobs if job is not current),
        deleted_jobs=objects.deleted_jobs,
        foreign_jobs=foreign_jobs,
        pods=_pods_of(name, objects, since=current.start_time if current else None),
        live_pods=tuple(pod for pod in objects.pods if not pod.ended),
        claiming=claiming,
        now=now,
        claims_held=claims_held,
        cancels=cancels,
        quota_probed=quota_probed,
        creation_paused=creation_paused,
    )
    seen = _with_facts(snapshot)
    return snapshot if seen is record else replace(snapshot, record=seen)


def _with_facts(snapshot: Snapshot) -> RunRecord:
    """Return the record with what the objects show now; the same one if that is nothing new."""
    record, job = snapshot.record, snapshot.current
    suspended_job, workload = record.suspended_job, record.workload
    if job is None or not job.suspended:
        workload = None
    if record.state_type == "SCHEDULED":
        suspended = (job.name for job in snapshot.previous_jobs if job.suspended)
        suspended_job = next(suspended, suspended_job)
    before: Mapping[Fact, float] = (
        record.since if snapshot.current_name == record.observed_name else {}
    )
    since: dict[Fact, float] = {
        fact: before.get(fact, snapshot.now) for fact, holds in facts(snapshot).items() if holds
    }
    shown = (snapshot.current_name, since, suspended_job, workload)
    if shown == (record.observed_name, record.since, record.suspended_job, record.workload):
        return record
    return replace(
        record,
        observed_name=snapshot.current_name,
        since=since,
        suspended_job=suspended_job,
        workload=workload,
    )


def facts(snapshot: Snapshot) -> dict[Fact, bool]:
    """Return the facts whose age matters to a rule. They start again with another Job."""
    job, newest, refusal = snapshot.current, snapshot.newest, snapshot.record.refusal
    live = snapshot.live_pods
    alive = job is not None and not job.ended
    suspended = job is not None and job.suspended
    may_run = any(not (job.ended or job.suspended) for job in snapshot.previous_jobs)
    return {
        "known": True,
        "ended": job is not None and job.ended,
        "vanished": bool(snapshot.current_name) and not job and not snapshot.pods_live,
        "previous": bool(snapshot.previous_jobs) and (bool(live) or may_run),
        "nothing_left": not snapshot.jobs and not live,
        "suspended": suspended,
        "unsuspended": alive and not suspended,
        "leaving": any(p.job_name == snapshot.current_name and p.deleting for p in live),
        "preempted": suspended and not snapshot.pods_live,
        "refused": refusal is not None and refusal.category != OUTAGE,
        "podless": alive and not suspended and not snapshot.pods,
        "creating": alive and newest is not None and not (newest.started or newest.ended),
        "settling": alive and newest is not None and newest.ended,
        "outlived": bool(snapshot.outlived),
    }


def _pods_of(job_name: str, objects: RunObjects, *, since: datetime | None) -> tuple[Pod, ...]:
    """Return the Job's pods since it was started or last resumed: earlier pods belong to another
    attempt."""
    mine = (pod for pod in (*objects.deleted_pods, *objects.pods) if pod.job_name == job_name)
    return tuple(pod for pod in mine if not _is_before(pod.metadata.creation_timestamp, since))


def _is_before(time: datetime | None, other: datetime | None) -> bool:
    return time is not None and other is not None and time < other


def _adopted_name(record: RunRecord, objects: RunObjects) -> str:
    """Return the name of a deleted Job that the claim had adopted; the name is of another claim."""
    claim = str(record.claim.id) if record.claim else None
    return next((job.name for job in objects.deleted_jobs if job.claim_id == claim), "")


def _current_name(record: RunRecord) -> str:
    """Return the recorded name if nothing contradicts it, else the one computed from the claim."""
    run, claim = record.run, record.claim
    if run is None or run.state_type == "SCHEDULED":
        return ""
    recorded = recorded_job(run)
    if claim is None:
        return "" if run.state_type == "PENDING" else recorded
    if claim.is_job_name(recorded, run_id=run.id):
        return recorded
    return names.job_name(run_name=run.name, run_id=run.id, claim_id=claim.id)


def _is_current(job: Job, record: RunRecord, name: str) -> bool:
    if not name:
        return False
    return job.claim_id == str(record.claim.id) if record.claim else job.name == name
