"""The figures of a binding at one moment, for metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workpool_operator.binding.conditions import ConditionState


@dataclass(frozen=True, slots=True)
class BindingFigures:
    """The figures of one binding, as this replica knows them; without the Lease only that.

    `queued` are due runs that are not claimed, `pending` claimed runs whose flow has not started,
    both by reason. `poll_age` is the number of seconds since the last successful poll.
    """

    namespace: str
    name: str
    is_held: bool = False
    conditions: Mapping[str, ConditionState] = field(default_factory=dict)
    running: int = 0
    suspended: int = 0
    pending: Mapping[str, int] = field(default_factory=dict)
    queued: Mapping[str, int] = field(default_factory=dict)
    concurrency_limit: int | None = None
    poll_age: float | None = None
    reconciler_queue: int = 0


def queued_by_reason(
    queued: int, claiming: ConditionState, *, limited: int, hidden: bool, deferred: int
) -> dict[str, int]:
    """Return why due runs are not claimed.

    `limited` of them wait for a slot of their deployment's concurrency limit; `hidden`: a limit of
    the pool or of a queue can hide the others from polls. `deferred` runs had their claim refused a
    moment ago; they are not among those that are `queued`.
    """
    limited = min(limited, queued)
    rest = queued - limited
    if claiming.status != "True":
        why = claiming.reason
    else:
        why = "PoolOrQueueLimit" if hidden else "NextPoll"
    found = {"DeploymentLimit": limited, why: rest, "ClaimRefused": deferred}
    return {reason: count for reason, count in found.items() if count}
