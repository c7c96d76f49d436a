"""Counts what the runs in flight take, from what exists, so that no counter can leak; and says why
no further run may be claimed. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from enum import Enum, auto

from workpool_operator.jobs import reasons
from workpool_operator.jobs.diagnosis import SUSPENDED
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.settings import PollSettings
from workpool_operator.runs.store import RunRecord

UNLIMITED = float("inf")


class Stage(Enum):
    """How far a run in flight is. All but RUNNING are pending; SUSPENDED takes no slot, because a
    queue decides when it starts."""

    CLAIMED = auto()  # offered or claimed, and no pod exists
    STARTING = auto()  # a pod exists, and its flow container has not started
    SUSPENDED = auto()  # its Job is suspended
    RUNNING = auto()  # the flow container has started


def stage_of(record: RunRecord | None, jobs: Iterable[Job], pods: Iterable[Pod]) -> Stage | None:
    """Return the stage of the run with these Jobs and pods; None if it is not in flight: it is
    neither offered nor claimed, and its Jobs and pods have ended."""
    pods = tuple(pods)
    live = [pod for pod in pods if not pod.ended]
    if live:
        return Stage.RUNNING if any(pod.started for pod in live) else Stage.STARTING
    alive = [job for job in jobs if not job.ended]
    if alive and all(job.suspended for job in alive):
        return Stage.SUSPENDED
    if alive:  # a Job ends a second after its pod
        return Stage.RUNNING if any(pod.started for pod in pods) else Stage.CLAIMED
    if record is None:
        return None
    is_claimed = record.state_type == "PENDING" and record.claim is not None
    return Stage.CLAIMED if is_claimed or record.offered_at is not None else None


def pending_reason(record: RunRecord | None, stage: Stage) -> str:
    """Return why the flow of a run that is not RUNNING has not started, as one of
    `reasons.WAITING`."""
    if record and record.refusal:
        return reasons.waiting(record.refusal.category)
    name = record.run.state_name if record and record.run and record.claim else ""
    if name in reasons.WAITING:
        return name
    if stage is Stage.SUSPENDED:
        return SUSPENDED
    if record and record.state_type == "PENDING" and name not in _WITHOUT_REASON:
        return reasons.OTHER
    return "Creating" if stage is Stage.CLAIMED else "Starting"


_WITHOUT_REASON = ("", "Pending", "Submitting")  # names of PENDING states


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why due runs are not claimed, though nothing is wrong: a reason as one CamelCase word, and a
    message with the figures."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """The ids of the runs in flight: the flow's container has started (`running`) or not
    (`pending`). Of the pending ones, a `suspended` run takes no slot, and a `claimed` one has no
    pod yet."""

    running: Set[str] = field(default_factory=set)
    pending: Set[str] = field(default_factory=set)
    suspended: Set[str] = field(default_factory=set)
    claimed: Set[str] = field(default_factory=set)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self.running or run_id in self.pending

    def __iter__(self) -> Iterator[str]:
        yield from self.running
        yield from self.pending

    @property
    def slots(self) -> int:
        """The number of slots that are taken."""
        return len(self.running) + self.pending_pods

    @property
    def pending_pods(self) -> int:
        """The number of runs whose pod exists or is to be created, and has not started the flow
        container."""
        return len(self.pending) - len(self.suspended)

    def free_slots(self, settings: PollSettings) -> float:
        """Return how many more runs may be claimed; infinite without a limit."""
        free = [UNLIMITED]
        if settings.concurrency_limit is not None:
            free.append(settings.concurrency_limit - self.slots)
        if settings.max_pending_pods is not None:
            free.append(settings.max_pending_pods - self.pending_pods)
        return max(0, min(free))

    def shortage(self, settings: PollSettings) -> Shortage | None:
        """Return which limit is reached; None while there are free slots."""
        if self.free_slots(settings) > 0:
            return None
        limit, pods = settings.concurrency_limit, settings.max_pending_pods
        if limit is not None and self.slots >= limit:
            text = f"All slots of spec.concurrencyLimit ({limit}) are taken"
            return Shortage("AtCapacity", f"{text}: due runs wait until one is free.")
        text = (
            f"{self.pending_pods} runs wait for their flow container to start, and "
            f"spec.jobs.maxPendingPods is {pods}: due runs wait until one has started."
        )
        return Shortage("AtCapacity", text)


class Capacity:
    """Keeps the runs in flight; `update` is called after each change of a run."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}
        self._running: set[str] = set()
        self._pending: set[str] = set()
        self._suspended: set[str] = set()
        self._claimed: set[str] = set()
        self.in_flight = InFlight(self._running, self._pending, self._suspended, self._claimed)

    def pending(self) -> Iterator[tuple[str, Stage]]:
        """Return the pending runs with their stages."""
        return ((run_id, self._stages[run_id]) for run_id in self._pending)

    def update(self, run_id: str, stage: Stage | None) -> bool:
        """Record the run's present stage; return whether it takes less than before."""
        if stage is self._stages.get(run_id):
            return False
        before = self._taken()
        for runs in (self._running, self._pending, self._suspended, self._claimed):
            runs.discard(run_id)
        if stage is None:
            del self._stages[run_id]
        else:
            self._stages[run_id] = stage
            (self._running if stage is Stage.RUNNING else self._pending).add(run_id)
        if stage is Stage.SUSPENDED:
            self._suspended.add(run_id)
        if stage is Stage.CLAIMED:
            self._claimed.add(run_id)
        return any(now < then for now, then in zip(self._taken(), before, strict=True))

    def _taken(self) -> tuple[int, int, int]:
        return self.in_flight.slots, self.in_flight.pending_pods, len(self._claimed)
