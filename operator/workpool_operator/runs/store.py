"""What the operator remembers of each flow run: a disposable cache of Prefect's truth.

It can be lost at any instruction: `resync` fills it again. Records are frozen and change only in
the store. A state from the server enters a record only through `RunStore.apply`. A record that was
read before an `await` can be out of date after it: read it again. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID

from workpool_operator.backoff import exponential_delay
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.jobs.diagnosis import OUTAGE, WaitReason
from workpool_operator.prefect_api.models import Run, State
from workpool_operator.runs.claims import Claim, ClaimedRun, is_stray_claim, recorded_job

NEVER = float("-inf")
FIRST_DEFERRAL_SECONDS, LONGEST_DEFERRAL_SECONDS = 30.0, 240.0


# What a snapshot shows and whose age matters to a rule; `snapshot.facts` defines each.
Fact = Literal[
    "known",
    "ended",
    "vanished",
    "previous",
    "nothing_left",
    "suspended",
    "unsuspended",
    "leaving",
    "preempted",
    "refused",
    "podless",
    "creating",
    "settling",
    "outlived",
]


class JobFaultReason(Enum):
    """Why creating the Job of a claim failed for good; its value is the word for it."""

    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"
    RENDERING_FAILED = "RenderingFailed"
    REFUSED = "JobRefused"  # by the API server


@dataclass(frozen=True, slots=True)
class JobFault:
    """A permanent failure to create the Job of a claim; `message` names the cause and the fix."""

    claim_id: UUID
    reason: JobFaultReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Everything known about one run. A field can be out of date but is never guessed. Times are
    seconds of the monotonic clock, except for `datetime` fields."""

    # The server's answer
    run: Run | None = None
    missing: bool = False  # the server answered 404
    read_at: float = NEVER  # when the last read was requested
    answered_at: float = NEVER  # when the server answered it
    valid_from: float = NEVER  # answers to earlier requests are out of date
    stale_since: float = NEVER  # when the state last changed, or may have
    # The claim
    claim: Claim | None = None
    claimed_here: bool = False  # Prefect accepted this process's proposal, or its answer is unknown
    foreign_state_id: UUID | None = None  # the state whose history shows no claim of ours
    stray_claim: bool = False  # Prefect accepted our state on a run that was not SCHEDULED
    lease_renewed_at: float = NEVER
    lost_lease: UUID | None = None  # a lease that cannot be renewed
    infrastructure_retries: int | None = None  # counted in the history under this claim
    # The offer of a poll
    offered_at: float | None = None  # the offer takes a slot from then on
    deployment: Mapping[str, Any] | None = None
    not_before: datetime | None = None  # no claim before then, because one was refused
    refused_claims: int = 0  # since the run became SCHEDULED
    refused_under: UUID | None = None  # the run's state at the last refused claim
    # The creation of the Job
    pending_timeout: int | None = None  # the run's own, in seconds, until its Job records it
    job_fault: JobFault | None = None  # why the Job cannot be created
    refusal: WaitReason | None = None  # why the API server refused the Job for now
    refused_until: float = NEVER
    refusals: int = 0
    refused_at: float = NEVER  # the last refusal
    only_this_refused_since: float | None = None  # Jobs of other runs are created
    # The Job in the cluster
    observed_name: str = ""  # the name of the current Job in the last snapshot
    since: Mapping[Fact, float] = field(default_factory=dict)  # when each fact was first seen
    job_confirmed_deleted: str = ""  # the name of a Job that a GET did not find
    suspended_job: str = ""  # a Job that was suspended after the run became SCHEDULED
    workload: str | None = None  # why Kueue suspends the Job; None until its Events are read
    event_reason: WaitReason | None = None  # why a Job or pod makes no progress, from Events
    events_read_at: float = NEVER
    pods_retried_at: float = NEVER
    # What was reported already, and what is about to be
    reported: tuple[str, str] = ("", "")  # pod and category of a RUNNING run's last reported wait
    noted: str = ""  # the object that the run's log was last written about
    crash_reason: str = ""  # of the Crashed that this process proposed last

    @property
    def state(self) -> State | None:
        """The run's full state; None if the run was read by a poll, which omits it."""
        return self.run.state if self.run else None

    @property
    def state_type(self) -> str:
        """The type of the run's state; "" without a run."""
        return self.run.state_type if self.run else ""

    @property
    def name(self) -> str:
        """The run's name; "" without a run."""
        return self.run.name if self.run else ""

    @property
    def recorded_job_key(self) -> str:
        """NAMESPACE/NAME of the claim's Job in `infrastructure_pid`; "" without one."""
        namespace = self.claimed_run.recorded_namespace if self.claimed_run else ""
        return f"{namespace}/{recorded_job(self.run)}" if namespace else ""

    @property
    def claimed_run(self) -> ClaimedRun | None:
        """The run with its claim; None unless both are known."""
        return ClaimedRun(self.run, self.claim) if self.run and self.claim else None

    @property
    def needs_document(self) -> bool:
        """The run's Job may still have to be rendered, or there is nothing to drop."""
        if self.run is None or not self.run.document:
            return True
        recorded = recorded_job(self.run)
        is_recorded = self.claim and self.claim.is_job_name(recorded, run_id=self.run.id)
        return self.state_type in ("SCHEDULED", "PENDING") and not is_recorded

    @property
    def is_stale(self) -> bool:
        """The run may have changed since it was read."""
        return self.stale_since > self.read_at

    @property
    def is_foreign(self) -> bool:
        """The history showed that the run's current state has no claim of ours."""
        state_id = self.state.id if self.state else None
        return self.foreign_state_id is not None and state_id == self.foreign_state_id

    def is_deferred(self, wall: datetime) -> bool:
        """Return whether it is too early for the next claim, because one was refused."""
        return self.not_before is not None and self.not_before > wall

    def apply(
        self,
        run: Run | None,
        *,
        asked_at: float,
        now: float,
        transition_ids: Set[UUID],
        wrote: bool = False,
    ) -> RunRecord:
        """Return the record after the server's answer (None for 404) to a request of `asked_at`.

        The record stays the same if the answer is out of date. `transition_ids` are those of our
        claims on the run. `wrote` marks the answer to a write of ours, which reads in flight may
        not reflect. If a read overtook such a write, the newer of the two is unknown.
        """
        if asked_at < self.valid_from:
            return self.mark_unknown(now) if wrote else self
        state_type = run.state_type if run else ""
        is_new = (self.missing, self.state_type) != (run is None, state_type)
        known = replace(
            self,
            run=run,
            missing=run is None,
            read_at=asked_at,
            answered_at=now,
            valid_from=now if wrote else asked_at,
            stray_claim=False,
            since={} if is_new else self.since,
            **self._void(run),
        )
        return known._identify(transition_ids)

    def mark_stale(self, now: float) -> RunRecord:
        """Return a record whose run must be read before anything else is decided."""
        return replace(self, stale_since=now)

    def mark_unknown(self, now: float) -> RunRecord:
        """Return a record after a write whose effect is unknown: only a read that is requested from
        now on shows it."""
        return replace(self.mark_stale(now), valid_from=now)

    def mark_foreign(self) -> RunRecord:
        """Return a record whose current state has no claim of ours: the run is left alone until its
        state changes."""
        state_id = self.state.id if self.state else None
        return replace(self, claim=None, stray_claim=False, foreign_state_id=state_id)

    def with_claim(self, claim: Claim | None) -> RunRecord:
        """Return a record whose current state belongs to this claim, or to none of ours."""
        return replace(self, claim=self._with_kept_lease(claim))

    def defer(self, state: State | None, *, wall: datetime) -> RunRecord:
        """Return the record after a refused claim on `state`.

        The next claim waits until the scheduled time of the state. If that has passed, the wait
        doubles with each refusal, so that other runs get the slot.
        """
        due = state.state_details.scheduled_time if state else None
        delay = exponential_delay(
            self.refused_claims, first=FIRST_DEFERRAL_SECONDS, longest=LONGEST_DEFERRAL_SECONDS
        )
        return replace(
            self,
            not_before=due if due and due > wall else wall + timedelta(seconds=delay),
            refused_under=state.id if state else None,
            refused_claims=self.refused_claims + 1,
            offered_at=None,
        )

    def _void(self, run: Run | None) -> Mapping[str, Any]:
        """Return the fields that the run's new state empties."""
        state_type = run.state_type if run else ""
        if state_type != "SCHEDULED":
            return _WITHOUT_OFFER if state_type else {**_WITHOUT_OFFER, **_WITHOUT_CLAIM}
        state = run.state if run else None
        if self.not_before and state and state.id != self.refused_under:
            return {**_WITHOUT_CLAIM, "not_before": state.state_details.scheduled_time}
        return _WITHOUT_CLAIM

    def _identify(self, transition_ids: Set[UUID]) -> RunRecord:
        """Return the record with the claim that its state proves (docs/races.md, 3)."""
        if self.state_type == "PENDING" and self.state is not None:
            return self._identify_pending(self.state, transition_ids)
        if self.state_type != "PENDING" and self.claim and self.run:
            recorded = recorded_job(self.run)
            if recorded and not self.claim.is_job_name(recorded, run_id=self.run.id):
                return replace(self, claim=None)  # the history decides
        return self

    def _identify_pending(self, state: State, transition_ids: Set[UUID]) -> RunRecord:
        """A PENDING state is ours if its transition id is that of the claim or of its sub-state."""
        proof, claim = state.state_details.transition_id, self.claim
        if proof in transition_ids:
            claim = self._with_kept_lease(Claim.of(state))
        elif claim is None or proof != claim.substate_id(state.name):
            claim = None
        stray = claim is not None and is_stray_claim(state, claim)
        return replace(self, claim=claim, stray_claim=stray)

    def _with_kept_lease(self, claim: Claim | None) -> Claim | None:
        """Return the claim, without its lease if that is lost."""
        is_lost = claim is not None and claim.lease_id == self.lost_lease
        return replace(claim, lease_id=None) if claim and is_lost else claim


# What a run has only while it is SCHEDULED, and what it has only under a claim.
_WITHOUT_OFFER: Mapping[str, Any] = {
    "offered_at": None,
    "not_before": None,
    "suspended_job": "",
    "noted": "",
    "refused_claims": 0,
}
_WITHOUT_CLAIM: Mapping[str, Any] = {
    "claim": None,
    "claimed_here": False,
    "job_confirmed_deleted": "",
    "refusal": None,
    "refused_until": NEVER,
    "refusals": 0,
    "refused_at": NEVER,
    "job_fault": None,
    "event_reason": None,
    "pending_timeout": None,
    "only_this_refused_since": None,
    "infrastructure_retries": None,
    "crash_reason": "",
}


class RunFacts(TypedDict, total=False):
    """The fields of a record that `RunStore.update` changes: what the operator learned or did
    itself. All others follow from the server's answers and from snapshots."""

    claimed_here: bool
    lease_renewed_at: float
    offered_at: float | None
    deployment: Mapping[str, Any] | None
    not_before: datetime | None
    pending_timeout: int | None
    job_fault: JobFault | None
    refusal: WaitReason | None
    refused_until: float
    refusals: int
    refused_at: float
    only_this_refused_since: float | None
    job_confirmed_deleted: str
    workload: str | None
    event_reason: WaitReason | None
    events_read_at: float
    pods_retried_at: float
    reported: tuple[str, str]
    noted: str
    crash_reason: str


class RunStore:
    """Keeps records by run id; `transition_ids(run_id)` returns those of our claims on the run.
    `changed(run_id)` is called after each change of a record.

    Unless it `keeps_documents`, it drops that of a run whose Job is recorded in Prefect: a
    thousand of them take 10 MiB.
    """

    def __init__(
        self,
        transition_ids: Callable[[UUID], Set[UUID]],
        *,
        changed: Callable[[UUID], None] = lambda _: None,
        keeps_documents: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.transition_ids = transition_ids
        self._changed = changed
        self._keeps_documents = keeps_documents
        self._clock = clock
        self._records: dict[UUID, RunRecord] = {}
        self._offered: set[UUID] = set()
        # Further runs are due; a poll offers them as soon as some of the offers are claimed.
        self.offers_follow = False

    def __iter__(self) -> Iterator[tuple[UUID, RunRecord]]:
        return iter(self._records.items())

    def __len__(self) -> int:
        return len(self._records)

    def run_ids(self) -> tuple[UUID, ...]:
        """Return every run that has a record now."""
        return tuple(self._records)

    def get(self, run_id: UUID) -> RunRecord | None:
        """Return the run's record; None if there is none."""
        return self._records.get(run_id)

    def of(self, run_id: UUID) -> RunRecord:
        """Return the run's record; an empty one if nothing is known."""
        return self._records.get(run_id, _EMPTY)

    @property
    def offered(self) -> Set[UUID]:
        """The runs with an open offer."""
        return self._offered

    @property
    def is_claiming(self) -> bool:
        """Whether offers are open or follow: between two polls of a burst none may be open."""
        return bool(self._offered) or self.offers_follow

    def put(self, run_id: UUID, record: RunRecord) -> None:
        """Replace the run's record."""
        if record is self._records.get(run_id):
            return
        if not self._keeps_documents and record.run and not record.needs_document:
            record = replace(record, run=record.run.without_document())
        self._records[run_id] = record
        if record.offered_at is None:
            self._offered.discard(run_id)
        else:
            self._offered.add(run_id)
        self._changed(run_id)

    def update(self, run_id: UUID, **facts: Unpack[RunFacts]) -> None:
        """Change facts of the run; do nothing if it was forgotten meanwhile."""
        if (known := self._records.get(run_id)) is not None:
            self.put(run_id, replace(known, **facts))

    def apply(self, run_id: UUID, run: Run | None, *, asked_at: float, wrote: bool = False) -> bool:
        """Apply the server's answer about the run; return False if it is out of date. See
        `RunRecord.apply`."""
        known = self.of(run_id)
        now = self._clock.monotonic()
        ids = self.transition_ids(run_id)
        self.put(
            run_id, known.apply(run, asked_at=asked_at, now=now, transition_ids=ids, wrote=wrote)
        )
        return asked_at >= known.valid_from

    def amend(self, run_id: UUID, **fields: Any) -> None:
        """Update fields of the run, other than its state, that the operator wrote itself."""
        known = self.of(run_id)
        if known.run is not None:
            self.put(run_id, replace(known, run=known.run.with_changes(**fields)))

    def mark_stale(self, run_id: UUID) -> None:
        """Have the run read before anything else is decided about it."""
        self.put(run_id, self.of(run_id).mark_stale(self._clock.monotonic()))

    def mark_unknown(self, run_id: UUID) -> None:
        """See `RunRecord.mark_unknown`."""
        self.put(run_id, self.of(run_id).mark_unknown(self._clock.monotonic()))

    def end_outage(self) -> None:
        """Retry at once what waits for the API server only."""
        for run_id, record in list(self._records.items()):
            if record.refusal and record.refusal.category == OUTAGE:
                self.update(run_id, refused_until=NEVER, only_this_refused_since=None)

    def drop(self, run_id: UUID) -> None:
        """Forget the run."""
        self._records.pop(run_id, None)
        self._offered.discard(run_id)
        self._changed(run_id)


_EMPTY = RunRecord()
