"""Models what the operator reads of Prefect's flow runs, states and pools. No I/O."""

from __future__ import annotations

from dataclasses import field, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

_CONFIG = ConfigDict(extra="ignore")

# Where Prefect keeps the W3C trace context of a run: prefect.telemetry.run_telemetry.
TRACEPARENT_LABEL = "__OTEL_TRACEPARENT"
FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True, slots=True, config=_CONFIG)
class StateDetails:
    transition_id: UUID | None = None
    scheduled_time: datetime | None = None
    deployment_concurrency_lease_id: UUID | None = None
    pause_reschedule: bool = False


@dataclass(frozen=True, slots=True, config=_CONFIG)
class State:
    """One state of a flow run, as the server stored it."""

    type: str
    name: str
    id: UUID | None = None
    timestamp: datetime | None = None
    message: str | None = None
    data: Any = None
    state_details: StateDetails = field(default_factory=StateDetails)

    @property
    def final(self) -> bool:
        return self.type in FINAL


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Run:
    """A flow run; `document` is the server's own JSON, from which its Job is rendered. It takes
    more memory than everything else about a run, and is empty once it is not needed.

    A poll returns no `state`, only its type and name.
    """

    id: UUID
    name: str
    flow_id: UUID
    state_type: str
    state_name: str
    state: State | None = None
    state_id: UUID | None = None
    deployment_id: UUID | None = None
    infrastructure_pid: str | None = None
    start_time: datetime | None = None
    next_scheduled_start_time: datetime | None = None
    work_queue_id: UUID | None = None
    empirical_policy: dict[str, Any] = field(default_factory=dict)
    traceparent: str = ""
    document: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        labels = document.get("labels")
        traceparent = labels.get(TRACEPARENT_LABEL) if isinstance(labels, dict) else None
        known = {**document, "traceparent": str(traceparent or ""), "document": document}
        return _run.validate_python(known)  # type: ignore[return-value]

    def with_state(self, state: State) -> Self:
        """Return the run with another state."""
        return replace(
            self, state=state, state_id=state.id, state_type=state.type, state_name=state.name
        )

    def with_changes(self, **fields: Any) -> Self:
        """Return the run with other values of these fields."""
        return replace(self, **fields, document={**self.document, **fields})

    def without_document(self) -> Self:
        """Return the run with an empty document."""
        return replace(self, document={})

    @property
    def final(self) -> bool:
        return self.state_type in FINAL

    @property
    def retries_in_process(self) -> bool:
        """Whether the run's own process is to retry it: no poll returns it (docs/races.md, 26)."""
        return self.empirical_policy.get("retry_type") == "in_process"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class WorkPool:
    id: UUID
    name: str
    type: str
    is_paused: bool = False
    concurrency_limit: int | None = None
    base_job_template: dict[str, Any] = field(default_factory=dict, repr=False)
    document: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        return _pool.validate_python({**document, "document": document})  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class WorkQueue:
    id: UUID
    name: str
    priority: int
    is_paused: bool = False
    concurrency_limit: int | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ConcurrencyLimit:
    """The limit of a deployment's runs; several deployments can share one."""

    id: UUID
    limit: int
    active_slots: int
    active: bool = True
    slot_decay_per_second: float = 0.0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Worker:
    """A worker of a pool, as it last reported itself; `status` is ONLINE or OFFLINE."""

    name: str
    status: str | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class SetStateResult:
    """The server's answer to a proposed state; `state` is the run's state now.

    Only `status` (ACCEPT, REJECT, ABORT, WAIT) shows whether it was accepted, not the HTTP code.
    """

    status: str
    state: State
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        return self.status == "ACCEPT"

    @property
    def reason(self) -> str:
        return str(self.details.get("reason") or "")


_run = TypeAdapter(Run)
_pool = TypeAdapter(WorkPool)
