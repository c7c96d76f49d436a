"""Identifies the claim under which a run is: an owner computes the ids of its claims. Pure.

Only the history proves which claim a named sub-state or a running flow belongs to: the current
state's ids belong to whoever wrote it last (docs/races.md, 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from workpool_operator.jobs import names
from workpool_operator.jobs.certificates import CASource
from workpool_operator.jobs.diagnosis import INFRASTRUCTURE_RETRY
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.overlay import JobOverlay
from workpool_operator.kube import models
from workpool_operator.kube.models import Job
from workpool_operator.prefect_api.models import Run, SetStateResult, State

# How much the clocks of a server's replicas can differ: their times order the states of a run.
CLOCK_SKEW = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Claim:
    """Our claim on a run; `id` is the id of the PENDING state that the claim created."""

    id: UUID
    timestamp: datetime | None = None
    scheduled_time: datetime | None = None
    lease_id: UUID | None = None

    @classmethod
    def of(cls, state: State) -> Claim | None:
        """Return the claim that created the state; None if the state has no id."""
        if state.id is None:
            return None
        details = state.state_details
        return cls(
            id=state.id,
            timestamp=state.timestamp,
            scheduled_time=details.scheduled_time,
            lease_id=details.deployment_concurrency_lease_id,
        )

    def substate_id(self, name: str) -> UUID:
        """Return the transition id of this claim's sub-state of that name."""
        return names.substate_transition_id(claim_id=self.id, name=name)

    def is_job_name(self, job_name: str, *, run_id: UUID) -> bool:
        """Return whether the name is that of this claim's Job."""
        return names.is_job_name(job_name, run_id=run_id, claim_id=self.id)


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run and our claim on it."""

    run: Run
    claim: Claim

    @property
    def recorded_namespace(self) -> str:
        """The namespace of the claim's Job in `infrastructure_pid`; "" if the pid is of an earlier
        attempt or missing."""
        namespace, _, name = (self.run.infrastructure_pid or "").partition(":")
        return namespace if self.claim.is_job_name(name, run_id=self.run.id) else ""


@dataclass(frozen=True, slots=True)
class Owner:
    """One binding or worker on one server and pool.

    `namespace` is that of the Jobs, "" if each Job of a worker has its own; runs can choose one of
    the `allowed_namespaces` instead. An owner that `shares_transition_ids` with other processes, as
    the workers of one pool do, adopts at its start every run that any of them claimed. Later it
    follows only the runs that it claims itself.
    """

    cluster_id: str
    binding: str  # namespace/name
    binding_id: str
    worker_name: str
    namespace: str
    server_url: str
    pool_id: UUID
    environment: tuple[dict[str, Any], ...]
    ca: CASource | None = None
    template_environment: frozenset[str] = frozenset()  # variables that templates may read
    shares_transition_ids: bool = False
    allowed_namespaces: frozenset[str] = frozenset()
    worker_type: str = "kubernetes"  # as Prefect lists it
    overlay: JobOverlay = field(default_factory=JobOverlay)

    @property
    def namespaces(self) -> frozenset[str]:
        """Every namespace that can have its Jobs; empty for a worker, which learns them by runs."""
        return self.allowed_namespaces | ({self.namespace} if self.namespace else set())

    def transition_id(self, run_id: UUID) -> UUID:
        """Return the id that proves that a claim on the run is ours."""
        return self._transition_id(run_id, self.pool_id)

    def _transition_id(self, run_id: UUID, pool_id: UUID) -> UUID:
        return names.transition_id(
            cluster_id=self.cluster_id, binding=self.binding, pool_id=pool_id, run_id=run_id
        )

    def is_granted(self, answer: SetStateResult) -> bool:
        """Return whether the answer to a proposed claim of ours makes the run this process's.

        Usually the transition id in the answer is proof enough, so that a claim can be repeated
        after a lost answer. If processes share the id, this proposal itself must be accepted:
        another process can have made the same one.
        """
        return answer.accepted or not self.shares_transition_ids

    def transition_ids(self, run_id: UUID, jobs: Iterable[Job]) -> Set[UUID]:
        """Return every id that proves a claim of ours: also for the pools in the labels of the
        run's Jobs. A pool that was deleted and created again has a new id; its runs continue."""
        pools = {pool for job in jobs if self.is_of_server(job) and (pool := _pool_of(job))}
        return {self._transition_id(run_id, pool) for pool in {self.pool_id, *pools}}

    def identity(self, run_id: UUID, claim: Claim, *, namespace: str = "") -> Identity:
        """Return what the Job of the claim carries; `namespace` counts if the owner has none."""
        return Identity(
            run_id=run_id,
            claim_id=claim.id,
            pool_id=self.pool_id,
            binding=self.binding,
            binding_id=self.binding_id,
            server=self.server_url,
            namespace=self.namespace or namespace,
            allowed_namespaces=self.allowed_namespaces,
        )

    def owns(self, job: Job) -> bool:
        """Return whether the Job was created for this pool on this server: after a change of the
        URL, the Jobs of the previous server must not be deleted."""
        return self.is_of_server(job) and _pool_of(job) == self.pool_id

    def is_of_server(self, job: Job) -> bool:
        """Return whether the Job was created for a run of this server."""
        return job.metadata.annotations.get(models.SERVER_ANNOTATION) == self.server_url


def recorded_job(run: Run | None) -> str:
    """Return the Job name in `infrastructure_pid` (`namespace:job-name`); "" without one."""
    return ((run.infrastructure_pid if run else None) or "").rpartition(":")[2]


def find_claim(run: Run, history: Sequence[State], mine: Set[UUID]) -> Claim | None:
    """Return our claim under which the run waits, runs or ran; None if there is none.

    It is in the history's last unbroken stretch of PENDING states. `history` is oldest first, and
    `mine` are the transition ids of our claims. If the run was rescheduled after the stretch, its
    recorded Job must be that of the claim: a flow that retries in its own process continues without
    a claim, and a cancelled run may have been rescheduled (docs/races.md, 26, 27).
    """
    stretch, rescheduled = _last_pending_stretch(in_order(history))
    claims = claims_in(stretch, mine)
    if not rescheduled:
        return claims[-1] if claims else None
    recorded = recorded_job(run)
    return next((claim for claim in claims if claim.is_job_name(recorded, run_id=run.id)), None)


def in_order(history: Sequence[State]) -> list[State]:
    """Return the states in the order in which they happened.

    A claim can have an earlier timestamp than the SCHEDULED state that it followed, if another
    replica of the server created that state. Both then have the same scheduled time.
    """
    states = list(history)
    for index in range(1, len(states)):
        before, state = states[index - 1], states[index]
        if _is_claim_on(before, state) and not _follows_scheduled(states, index - 1):
            states[index - 1], states[index] = state, before
    return states


def is_stray_claim(state: State, claim: Claim) -> bool:
    """Return whether the claim, or its sub-state, overwrote a state other than SCHEDULED: the
    server copies the scheduled time from a SCHEDULED predecessor (docs/races.md, 1)."""
    time = claim.scheduled_time
    return time is None or state.state_details.scheduled_time != time


def is_stray_substate(state: State, history: Sequence[State], mine: Set[UUID]) -> bool:
    """Return whether the state is a sub-state of an ended claim of ours, which arrived late and was
    accepted."""
    claims = claims_in(history, mine)
    return state.state_details.transition_id in {c.substate_id(state.name) for c in claims}


def overwritten_state(state: State, history: Sequence[State], mine: Set[UUID]) -> State | None:
    """Return the state that our states up to `state` overwrote, with its data; None if that is
    another owner's claim, which is kept."""
    ids = [entry.id for entry in history]
    before = history[: ids.index(state.id)] if state.id in ids else history
    for entry in reversed(before):
        if entry.type != "PENDING":
            return entry
        is_ours = entry.state_details.transition_id in mine
        if not is_ours and not is_stray_substate(entry, history, mine):
            return None
    return None


def count_retries(history: Sequence[State], mine: Set[UUID]) -> int:
    """Return how often the operator rescheduled the run for its infrastructure since the run was
    last final. `history` is oldest first; `mine` are the transition ids of our claims."""
    claims = claims_in(history, mine)
    ids = {claim.substate_id(INFRASTRUCTURE_RETRY) for claim in claims}
    made = 0
    for state in history:
        if state.final:
            made = 0
        elif state.type == "SCHEDULED" and state.state_details.transition_id in ids:
            made += 1
    return made


def claims_in(states: Sequence[State], mine: Set[UUID]) -> list[Claim]:
    """Return the claims whose transition id is in `mine`, in the order of the states."""
    found = (Claim.of(state) for state in states if state.state_details.transition_id in mine)
    return [claim for claim in found if claim]


def _last_pending_stretch(history: Sequence[State]) -> tuple[list[State], bool]:
    """Return the stretch, and whether the run was SCHEDULED after it."""
    stretch: list[State] = []
    rescheduled = False
    for state in reversed(history):
        if state.type == "PENDING":
            stretch.append(state)
        elif stretch:
            break
        elif state.type == "SCHEDULED":
            rescheduled = True
    return stretch[::-1], rescheduled


def _is_claim_on(pending: State, scheduled: State) -> bool:
    """Return whether the states can be a claim and the SCHEDULED state that it followed, in the
    wrong order."""
    if (pending.type, scheduled.type) != ("PENDING", "SCHEDULED"):
        return False
    if pending.timestamp is None or scheduled.timestamp is None:
        return False
    due = pending.state_details.scheduled_time
    is_same = due is not None and due == scheduled.state_details.scheduled_time
    return is_same and scheduled.timestamp - pending.timestamp <= CLOCK_SKEW


def _follows_scheduled(states: Sequence[State], index: int) -> bool:
    """Return whether the SCHEDULED state that the claim followed is already before it."""
    due = states[index].state_details.scheduled_time
    earlier = (s for s in reversed(states[:index]) if s.type != "PENDING")
    before = next(earlier, None)
    return before is not None and before.state_details.scheduled_time == due


def _pool_of(job: Job) -> UUID | None:
    try:
        return UUID(job.spec.template.labels.get(models.POOL_LABEL, ""))
    except ValueError:
        return None
