"""What is known of each flow run between two looks at it: a disposable cache of Prefect's truth.

It may be lost at any instruction: `resync` fills it again. Only plain data, no I/O; the clock is
the caller's (seconds, monotonic).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from workpool_operator.dispatch.claims import Claim, ClaimedRun, recorded_job
from workpool_operator.jobs.verdict import OUTAGE, Wait
from workpool_operator.prefect_api.views import Run, State

NEVER = float("-inf")
FIRST_PARK, LONGEST_PARK = timedelta(seconds=30), timedelta(minutes=4)


@dataclass(slots=True)
class Record:
    """One run's entry; every field may be out of date but never invented."""

    run: Run | None = None
    missing: bool = False  # the server answered 404
    read_at: float = NEVER  # when the server was asked for what is known
    heard_at: float = NEVER  # when it answered
    valid_from: float = NEVER  # an answer to what was asked before is out of date
    doubted_at: float = NEVER  # when something last said, or left open, that the state changed
    offered_at: float | None = None  # the poll that offers it; it holds a slot from then on
    claim: Claim | None = None
    disowned: UUID | None = None  # the state under which history showed no claim of ours
    phantom: bool = False  # a state of ours was accepted on a run that was not SCHEDULED
    deployment: Mapping[str, Any] | None = None
    pending_timeout: int | None = None  # the run's own, in seconds, before its Job says so
    job_confirmed_gone: str = ""  # the name of a Job that a live GET did not find
    refusal: Wait | None = None  # why the API server did not take the Job
    refused_until: float = NEVER
    refusals: int = 0
    refused_at: float = NEVER  # the last of them
    alone_since: float | None = None  # others' Jobs are created, while this one's is an outage
    diagnosis: Wait | None = None  # what Events say about a Job or pod that does not move
    diagnosed_at: float = NEVER
    reported: tuple[str, str] = ("", "")  # the wait last reported of a RUNNING run: pod, category
    lease_renewed_at: float = NEVER
    lost_lease: UUID | None = None  # it cannot be renewed any more
    not_before: datetime | None = None  # when a refused claim may be made again
    refused_claims: int = 0  # since the run became SCHEDULED
    refused_under: UUID | None = None  # the state that the last of them found
    told: str = ""  # what the run's log was last told about
    workload: str | None = None  # what Kueue says a suspended Job waits for, once it was asked
    infrastructure_retries: int | None = None  # as the history had it under this claim
    kept: str = ""  # the name of a Job that was seen suspended since the run is SCHEDULED
    observed_name: str = ""  # the current Job's at the last look
    since: dict[str, float] = field(default_factory=dict)  # fact -> when it was first seen to hold

    @property
    def stale(self) -> bool:
        return self.doubted_at > self.read_at

    @property
    def state_type(self) -> str:
        """Empty where there is no run."""
        return self.run.state_type if self.run else ""

    @property
    def claimed_run(self) -> ClaimedRun | None:
        """The run with its claim; None unless both are known."""
        return ClaimedRun(self.run, self.claim) if self.run and self.claim else None

    def doubt(self, now: float) -> None:
        """What is known may have changed: it is read again before anything else is decided."""
        self.doubted_at = now

    def parked(self, wall: datetime) -> bool:
        """A claim was refused, and it is too early for the next."""
        return self.not_before is not None and self.not_before > wall

    def claim_refused(self, state: State | None, *, wall: datetime) -> None:
        """Put the run off: until the time that its state names, or, where that is no later time,
        ever longer, so that others get its slot."""
        due = state.state_details.scheduled_time if state else None
        longer = FIRST_PARK * 2**self.refused_claims
        self.not_before = due if due and due > wall else wall + min(longer, LONGEST_PARK)
        self.refused_under = state.id if state else None
        self.refused_claims += 1
        self.offered_at = None

    def heard(self, run: Run | None, *, asked_at: float, now: float, wrote: bool = False) -> bool:
        """The server's answer (None for 404) to what was asked at `asked_at`; False if it is out of
        date. `wrote`: it answers a change of ours, which reads on their way may not know yet."""
        if asked_at < self.valid_from:
            return False
        if self.missing != (run is None) or self.state_type != (run.state_type if run else ""):
            self.since.clear()
        self.run, self.missing = run, run is None
        self.read_at, self.heard_at = asked_at, now
        self.valid_from = now if wrote else asked_at
        self.phantom = False
        self._let_go()
        return True

    def claimed(self, claim: Claim | None) -> None:
        """The run's present state is of this claim of ours, or of none."""
        if claim and claim.lease_id == self.lost_lease:
            claim = replace(claim, lease_id=None)
        self.claim = claim

    def disown(self) -> None:
        """The run's present state is not of our making: leave it alone until it changes."""
        self.claim, self.phantom = None, False
        self.disowned = self.run.state.id if self.run and self.run.state else None

    def _let_go(self) -> None:
        """Forget what the state that was just heard makes void."""
        state = self.run.state if self.run else None
        if self.state_type != "SCHEDULED":
            self.offered_at = self.not_before = None
            self.kept = self.told = ""
            self.refused_claims = 0
        elif self.not_before and state and state.id != self.refused_under:
            self.not_before = state.state_details.scheduled_time
        if self.state_type in ("", "SCHEDULED"):
            self.claim = None
            self.job_confirmed_gone = ""
            self.refusal = self.diagnosis = self.pending_timeout = self.alone_since = None
            self.infrastructure_retries = None
        elif self.state_type != "PENDING" and self.claim and self.run:
            pid = recorded_job(self.run)
            if pid and not self.claim.made(pid, run_id=self.run.id):
                self.claim = None  # somebody else's, unless the history says otherwise


class Ledger:
    """Records by run id."""

    def __init__(self) -> None:
        self._records: dict[UUID, Record] = {}

    def __iter__(self) -> Iterator[tuple[UUID, Record]]:
        return iter(self._records.items())

    def __len__(self) -> int:
        return len(self._records)

    def get(self, run_id: UUID) -> Record | None:
        return self._records.get(run_id)

    def of(self, run_id: UUID) -> Record:
        """The run's record, made if there is none."""
        return self._records.setdefault(run_id, Record())

    def take(self, run_id: UUID, record: Record) -> None:
        """Go on with what somebody else learnt of the run."""
        self._records[run_id] = record

    def outage_over(self) -> None:
        """What waited for the API server alone is to be tried again now."""
        for record in self._records.values():
            if record.refusal and record.refusal.category == OUTAGE:
                record.refused_until, record.alone_since = NEVER, None

    def drop(self, run_id: UUID) -> None:
        self._records.pop(run_id, None)
