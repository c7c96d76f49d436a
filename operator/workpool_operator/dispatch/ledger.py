"""What is known of each flow run between two looks at it: a disposable cache of Prefect's truth.

It may be lost at any instruction: `resync` fills it again. Only plain data, no I/O; the clock is
the caller's (seconds, monotonic).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from workpool_operator.jobs import names
from workpool_operator.jobs.verdict import Wait
from workpool_operator.prefect_api.views import Run, State


@dataclass(frozen=True, slots=True)
class Claim:
    """This binding's claim on a run: `id` is that of the Pending state it made."""

    id: UUID
    timestamp: datetime | None = None
    scheduled_time: datetime | None = None
    lease_id: UUID | None = None

    @classmethod
    def of(cls, state: State) -> Claim:
        details = state.state_details
        assert state.id is not None
        return cls(
            id=state.id,
            timestamp=state.timestamp,
            scheduled_time=details.scheduled_time,
            lease_id=details.deployment_concurrency_lease_id,
        )

    def substate_id(self, name: str) -> UUID:
        """The transition id of this claim's sub-state of that name."""
        return names.substate_transition_id(claim_id=self.id, name=name)


@dataclass(slots=True)
class Record:
    """One run's entry; every field may be out of date but never invented."""

    run: Run | None = None
    missing: bool = False  # the server answered 404
    read_at: float = float("-inf")  # when the run's state was last heard from the server
    changed_at: float = float("-inf")  # when an event last said that it changed
    offered_at: float | None = None  # the poll that offers it; it holds a slot from then on
    claim: Claim | None = None
    disowned: UUID | None = None  # the state under which history showed no claim of ours
    phantom: bool = False  # a state of ours was accepted on a run that was not SCHEDULED
    deployment: dict[str, Any] | None = None
    job_confirmed_gone: str = ""  # the name of a Job that a live GET did not find
    refusal: Wait | None = None  # why the API server did not take the Job
    refused_until: float = float("-inf")
    refusals: int = 0
    diagnosis: Wait | None = None  # what Events say about a Job or pod that does not move
    diagnosed_at: float = float("-inf")
    lease_renewed_at: float = float("-inf")
    not_before: datetime | None = None  # a refused claim names when to come again
    since: dict[str, float] = field(default_factory=dict)  # fact -> when it was first seen to hold

    @property
    def stale(self) -> bool:
        return self.changed_at > self.read_at

    def heard(self, run: Run | None, at: float) -> bool:
        """The server's answer (None for 404) to what was asked at `at`; False if out of date."""
        if at < self.read_at:
            return False
        moved = run is None or self.run is None or run.state_type != self.run.state_type
        self.run, self.missing, self.read_at = run, run is None, at
        self.phantom = False
        if moved:
            self.since.clear()
        if run is not None and run.state_type != "SCHEDULED":
            self.offered_at = None
        if run is None or run.state_type == "SCHEDULED":
            self.claim = None
            self.job_confirmed_gone = ""
            self.refusal = self.diagnosis = None
        return True

    def disown(self) -> None:
        """The run's present state is not of our making: leave it alone until it changes."""
        self.claim, self.phantom = None, False
        self.disowned = self.run.state.id if self.run and self.run.state else None


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

    def drop(self, run_id: UUID) -> None:
        self._records.pop(run_id, None)
