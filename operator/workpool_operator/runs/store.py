"""What the operator remembers of each flow run: a disposable cache of Prefect's truth.

It may be lost at any instruction: `resync` fills it again. Records are frozen and change only in
the store; `RunStore.apply` is the one door through which a state of the server enters them. A
record that was read before an `await` may be out of date after it: read it again. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.jobs.diagnosis import OUTAGE, WaitReason
from workpool_operator.prefect_api.models import Run, State
from workpool_operator.runs.claims import Claim, ClaimedRun, is_stray_claim, recorded_job

NEVER = float("-inf")
FIRST_DEFERRAL, LONGEST_DEFERRAL = timedelta(seconds=30), timedelta(minutes=4)


class JobFaultReason(Enum):
    """What was found when the Job of a claim was to be created."""

    DEPLOYMENT_NOT_FOUND = auto()
    RENDERING_FAILED = auto()
    REFUSED = auto()  # by the API server, for good


@dataclass(frozen=True, slots=True)
class JobFault:
    """Why there can be no Job for a claim; `message` has the fact and the fix."""

    claim_id: UUID
    reason: JobFaultReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What is known of one run; a field may be out of date but never invented. Times are seconds
    of the monotonic clock but for those that are `datetime`."""

    # The server's answer
    run: Run | None = None
    missing: bool = False  # the server answered 404
    read_at: float = NEVER  # when the server was asked for what is known
    answered_at: float = NEVER  # when it answered
    valid_from: float = NEVER  # an answer to what was asked before is out of date
    stale_since: float = NEVER  # when something last said, or left open, that the state changed
    # Whose run it is
    claim: Claim | None = None
    claimed_here: bool = False  # this process proposed the claim, and no other's was found
    foreign_state_id: UUID | None = None  # the state under which history showed no claim of ours
    stray_claim: bool = False  # a state of ours was accepted on a run that was not SCHEDULED
    lease_renewed_at: float = NEVER
    lost_lease: UUID | None = None  # it cannot be renewed any more
    infrastructure_retries: int | None = None  # as the history had it under this claim
    # The offer of a poll, and what became of it
    offered_at: float | None = None  # the offer holds a slot from then on
    deployment: Mapping[str, Any] | None = None
    not_before: datetime | None = None  # when a refused claim may be made again
    refused_claims: int = 0  # since the run became SCHEDULED
    refused_under: UUID | None = None  # the state that the last of them found
    # The creation of the Job
    pending_timeout: int | None = None  # the run's own, in seconds, before its Job says so
    job_fault: JobFault | None = None  # why there can be no Job
    refusal: WaitReason | None = None  # why the API server did not take the Job
    refused_until: float = NEVER
    refusals: int = 0
    refused_at: float = NEVER  # the last of them
    alone_since: float | None = None  # others' Jobs are created, while this one's is an outage
    # The Job in the cluster
    observed_name: str = ""  # the current Job's in the last snapshot
    since: Mapping[str, float] = field(default_factory=dict)  # fact -> when it was first seen
    job_confirmed_gone: str = ""  # the name of a Job that a live GET did not find
    suspended_job: str = ""  # the name of a Job that was suspended since the run is SCHEDULED
    workload: str | None = None  # what Kueue says a suspended Job waits for, once it was asked
    event_reason: WaitReason | None = None  # what Events say about a Job or pod that does not move
    events_read_at: float = NEVER
    # What the run's readers know already
    reported: tuple[str, str] = ("", "")  # pod and category of a RUNNING run's last reported wait
    noted: str = ""  # the object that the run's log was last written about

    @property
    def state(self) -> State | None:
        """The run's full state; None where only a poll, which omits it, has been read."""
        return self.run.state if self.run else None

    @property
    def state_type(self) -> str:
        """The type of the run's state; empty where there is no run."""
        return self.run.state_type if self.run else ""

    @property
    def claimed_run(self) -> ClaimedRun | None:
        """The run with its claim; None unless both are known."""
        return ClaimedRun(self.run, self.claim) if self.run and self.claim else None

    @property
    def is_stale(self) -> bool:
        """The run may have changed since the server was asked."""
        return self.stale_since > self.read_at

    @property
    def is_foreign(self) -> bool:
        """The history showed that the operator did not make the run's present state."""
        state_id = self.state.id if self.state else None
        return self.foreign_state_id is not None and state_id == self.foreign_state_id

    def is_deferred(self, wall: datetime) -> bool:
        """Return whether a claim was refused, and it is too early for the next."""
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
        """Return the record after the server's answer (None for 404) to what was asked at
        `asked_at`; the same record if the answer is out of date.

        `transition_ids` are those of our claims on the run. `wrote`: the answer is to a change of
        ours, which reads on their way may not know yet. Where a read overtook such a change,
        it is open which of the two is newer: the record is stale then.
        """
        if asked_at < self.valid_from:
            return self.mark_stale(now) if wrote else self
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
        )
        return known._drop_void()._identify(transition_ids)

    def mark_stale(self, now: float) -> RunRecord:
        """Return a record that has to be read before anything else is decided."""
        return replace(self, stale_since=now)

    def mark_foreign(self) -> RunRecord:
        """Return a record whose present state the operator did not make: the run is left alone
        until it changes."""
        state_id = self.state.id if self.state else None
        return replace(self, claim=None, stray_claim=False, foreign_state_id=state_id)

    def with_claim(self, claim: Claim | None) -> RunRecord:
        """Return a record whose present state belongs to this claim, or to none of ours."""
        if claim and claim.lease_id == self.lost_lease:
            claim = replace(claim, lease_id=None)
        return replace(self, claim=claim)

    def defer(self, state: State | None, *, wall: datetime) -> RunRecord:
        """Return the record after a refused claim, which found `state`: the run waits until the
        time that its state names, or, where that is no later time, ever longer, so that others get
        its slot."""
        due = state.state_details.scheduled_time if state else None
        longer = FIRST_DEFERRAL * 2**self.refused_claims
        return replace(
            self,
            not_before=due if due and due > wall else wall + min(longer, LONGEST_DEFERRAL),
            refused_under=state.id if state else None,
            refused_claims=self.refused_claims + 1,
            offered_at=None,
        )

    def _drop_void(self) -> RunRecord:
        """Drop what the state that was just applied makes void."""
        known = self
        if self.state_type != "SCHEDULED":
            known = replace(
                known,
                offered_at=None,
                not_before=None,
                suspended_job="",
                noted="",
                refused_claims=0,
            )
        elif self.not_before and self.state and self.state.id != self.refused_under:
            known = replace(known, not_before=self.state.state_details.scheduled_time)
        if self.state_type in ("", "SCHEDULED"):
            return replace(
                known,
                claim=None,
                claimed_here=False,
                job_confirmed_gone="",
                refusal=None,
                job_fault=None,
                event_reason=None,
                pending_timeout=None,
                alone_since=None,
                infrastructure_retries=None,
            )
        return known

    def _identify(self, transition_ids: Set[UUID]) -> RunRecord:
        """Settle which claim the state belongs to, as far as the state proves it (docs/races.md,
        3)."""
        if self.state_type == "PENDING" and self.state is not None:
            return self._identify_pending(self.state, transition_ids)
        if self.state_type != "PENDING" and self.claim and self.run:
            recorded = recorded_job(self.run)
            if recorded and not self.claim.made(recorded, run_id=self.run.id):
                return replace(self, claim=None)  # another's, unless the history says otherwise
        return self

    def _identify_pending(self, state: State, transition_ids: Set[UUID]) -> RunRecord:
        """A PENDING state is ours by its transition id: the claim's own, or a sub-state's of it."""
        proof = state.state_details.transition_id
        known = self
        if proof in transition_ids:
            known = self.with_claim(Claim.of(state))
        elif self.claim is None or proof != self.claim.substate_id(state.name):
            known = replace(self, claim=None)
        stray = known.claim is not None and is_stray_claim(state, known.claim)
        return replace(known, stray_claim=stray)


class RunStore:
    """Records by run id; `transition_ids(run_id)` are those of our claims on the run."""

    def __init__(
        self,
        transition_ids: Callable[[UUID], Set[UUID]],
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.transition_ids = transition_ids
        self._clock = clock
        self._records: dict[UUID, RunRecord] = {}

    def __iter__(self) -> Iterator[tuple[UUID, RunRecord]]:
        return iter(self._records.items())

    def __len__(self) -> int:
        return len(self._records)

    def get(self, run_id: UUID) -> RunRecord | None:
        """Return the run's record; None if there is none."""
        return self._records.get(run_id)

    def of(self, run_id: UUID) -> RunRecord:
        """Return the run's record, an empty one if nothing is known."""
        return self._records.get(run_id, _EMPTY)

    def put(self, run_id: UUID, record: RunRecord) -> None:
        """Remember the record in the place of the one before."""
        self._records[run_id] = record

    def apply(self, run_id: UUID, run: Run | None, *, asked_at: float, wrote: bool = False) -> bool:
        """Let the server's full answer about the run in, unless the store knows better by now;
        return whether it was let in. See `RunRecord.apply`."""
        known = self.of(run_id)
        now = self._clock.monotonic()
        ids = self.transition_ids(run_id)
        self.put(
            run_id, known.apply(run, asked_at=asked_at, now=now, transition_ids=ids, wrote=wrote)
        )
        return asked_at >= known.valid_from

    def amend(self, run_id: UUID, **fields: Any) -> None:
        """Note fields of the run, none of its state, that the operator wrote itself."""
        known = self.of(run_id)
        if known.run is not None:
            self.put(run_id, replace(known, run=known.run.with_changes(**fields)))

    def mark_stale(self, run_id: UUID) -> None:
        """Have the run read before anything else is decided about it."""
        self.put(run_id, self.of(run_id).mark_stale(self._clock.monotonic()))

    def end_outage(self) -> None:
        """Have what waited for the API server alone tried again now."""
        for run_id, record in list(self._records.items()):
            if record.refusal and record.refusal.category == OUTAGE:
                self.put(run_id, replace(record, refused_until=NEVER, alone_since=None))

    def drop(self, run_id: UUID) -> None:
        """Forget the run."""
        self._records.pop(run_id, None)


_EMPTY = RunRecord()
