"""Computes the condition PoolShared: who else claims runs of a binding's work pool. Pure.

Claims are exclusive, so each run of a shared pool goes to one of its consumers. That is useful
during a move from one cluster or worker to another, and a surprise if it is not intended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from workpool_operator.binding.conditions import ConditionState, list_first

_MOST_LISTED = 3


@dataclass(frozen=True, slots=True)
class PoolConsumer:
    """A binding of this process and the queues that it serves (None: all of the pool)."""

    binding: str
    worker: str
    pool_id: UUID
    queues: Sequence[str] | None

    def overlaps(self, other: PoolConsumer) -> bool:
        """Return whether both can claim the same run."""
        if self.pool_id != other.pool_id:
            return False
        return not (self.queues and other.queues) or not set(self.queues).isdisjoint(other.queues)


class PoolConsumers:
    """The consumers that the process knows, at most one for each binding. `version` changes with
    them, so that a session compares them only after a change, not each second."""

    def __init__(self) -> None:
        self._by_binding: dict[str, PoolConsumer] = {}
        self.version = 0

    def __iter__(self) -> Iterator[PoolConsumer]:
        return iter(self._by_binding.values())

    def put(self, consumer: PoolConsumer) -> None:
        """Add the consumer, in place of the binding's former one."""
        if self._by_binding.get(consumer.binding) != consumer:
            self._by_binding[consumer.binding] = consumer
            self.version += 1

    def remove(self, binding: str) -> None:
        """Remove the binding's consumer, if it is known."""
        if self._by_binding.pop(binding, None):
            self.version += 1


def pool_shared(
    own: PoolConsumer, others: Iterable[PoolConsumer], workers: Iterable[str] | None
) -> ConditionState:
    """Return PoolShared for the consumer `own`.

    `workers` are the names of the workers that Prefect lists as online, None if they are unknown.
    """
    others = [other for other in others if other.binding != own.binding]
    bindings = sorted(other.binding for other in others if own.overlaps(other))
    known = {own.worker, *(other.worker for other in others)}
    other_workers = sorted(set(workers or ()) - known)
    if bindings:
        return ConditionState("True", "OtherBinding", _text("binding", bindings, other_workers))
    if other_workers:
        return ConditionState("True", "OtherWorker", _text("worker", other_workers, ()))
    if workers is None:
        return ConditionState(
            "Unknown", "NotChecked", "Prefect has not listed the work pool's workers."
        )
    text = "No other binding of this operator and no other online worker polls these queues."
    return ConditionState("False", "Alone", text)


def _text(kind: str, names: Sequence[str], workers: Sequence[str]) -> str:
    also = f", and online worker {list_first(workers, most=_MOST_LISTED)}" if workers else ""
    return (
        f"Due runs also go to {kind} {list_first(names, most=_MOST_LISTED)}{also}, on the same "
        "work pool. Each run is claimed by one of them, and each has its own concurrency limit. If "
        "this is not intended, give them different work queues, or remove one."
    )
