"""Who else takes runs from a binding's work pool: the condition PoolShared. Pure.

A claim is exclusive: of those who share a pool each run goes to one. That is what a move from one
cluster or worker to another needs, and a surprise where it is not intended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from workpool_operator.binding.conditions import ConditionState

_LISTED = 3  # a condition is read in a terminal


@dataclass(frozen=True, slots=True)
class PoolConsumer:
    """What a binding of this process takes runs from; no `queues`: from all of the pool's."""

    binding: str
    worker: str
    pool_id: UUID
    queues: Sequence[str] | None

    def overlaps(self, other: PoolConsumer) -> bool:
        """Some run may go to either."""
        if self.pool_id != other.pool_id:
            return False
        return not (self.queues and other.queues) or not set(self.queues).isdisjoint(other.queues)


def pool_shared(
    own: PoolConsumer, others: Iterable[PoolConsumer], workers: Iterable[str] | None
) -> ConditionState:
    """`workers` are those that Prefect lists as online on the pool; None where it does not say."""
    others = [other for other in others if other.binding != own.binding]
    bindings = sorted(other.binding for other in others if own.overlaps(other))
    known = {own.worker, *(other.worker for other in others)}
    strangers = sorted(set(workers or ()) - known)
    if bindings:
        return ConditionState("True", "OtherBinding", _text("binding", bindings, strangers))
    if strangers:
        return ConditionState("True", "OtherWorker", _text("worker", strangers, ()))
    if workers is None:
        return ConditionState(
            "Unknown", "NotChecked", "Prefect does not list the work pool's workers."
        )
    text = "No other binding of this operator, and no other online worker, polls these queues."
    return ConditionState("False", "Alone", text)


def _text(kind: str, names: Sequence[str], workers: Sequence[str]) -> str:
    also = f", and online worker {_listed(workers)}" if workers else ""
    return (
        f"Due runs also go to {kind} {_listed(names)}{also}, on the same work pool: each run is "
        "claimed by one of them, and each has a concurrency limit of its own. If that is not "
        "intended, give them different work queues, or remove one."
    )


def _listed(names: Sequence[str]) -> str:
    more = f" (and {len(names) - _LISTED} more)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
