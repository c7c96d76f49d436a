"""Knows which deployments have no free concurrency slot in Prefect: no claim is made in vain. Pure.

Prefect refuses a claim on a run of such a deployment, and postpones the run by 30 s. The
deployments, which are read with each page of runs, show how many of their slots are free; a refused
claim shows that none is. The runs of a deployment without a free slot are then left out until one
of its runs returns a slot, but at most for 30 s: runs of other pools can hold its slots, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from workpool_operator.prefect_api.models import ConcurrencyLimit, Run

UNLIMITED = float("inf")
# A moment less than the 30 s for which Prefect delays a run whose claim it refuses, so that a poll
# reads the limit again when that run is due.
FULL_SECONDS = 29.0
LEASE_SECONDS = 300  # a slot that its run does not renew is free after that


@dataclass(frozen=True, slots=True)
class Limit:
    """A deployment's concurrency limit, which several deployments can share, and the number of its
    free slots."""

    id: UUID
    free: float


class DeploymentLimits:
    """Remembers the deployments without a free slot."""

    def __init__(self) -> None:
        self._limit_of: dict[UUID, UUID] = {}  # by deployment, of those that have a limit
        self._full_until: dict[UUID, float] = {}  # by limit
        self._short: set[UUID] = set()  # the limits for which runs were left out
        self._contested: set[UUID] = set()  # the limits whose last claim was refused

    def full(self, now: float) -> frozenset[UUID]:
        """Return the deployments without a free slot."""
        full = {id_ for id_, until in self._full_until.items() if until > now}
        return frozenset(id_ for id_, limit in self._limit_of.items() if limit in full)

    def claim_refused(self, deployment: UUID, now: float) -> None:
        """Note that Prefect refused a claim on a run of the deployment."""
        limit = self._limit_of.setdefault(deployment, deployment)
        self._full_until[limit] = now + FULL_SECONDS
        self._short.add(limit)
        self._contested.add(limit)

    def claim_accepted(self, deployment: UUID) -> bool:
        """Note that Prefect accepted a claim on a run of the deployment. Return whether the one
        before was refused."""
        limit = self._limit_of.get(deployment, deployment)
        was_contested = limit in self._contested
        self._contested.discard(limit)
        return was_contested

    def slot_returned(self, deployment: UUID) -> bool:
        """Note that a run of the deployment returned its slot. Return whether runs wait for it."""
        limit = self._limit_of.get(deployment, deployment)
        waited = limit in self._short
        self._short.discard(limit)
        self._full_until.pop(limit, None)
        return waited

    def admit(
        self,
        runs: Sequence[Run],
        found: Mapping[UUID, Mapping[str, Any]],
        *,
        offered: Iterable[UUID | None],
        now: float,
    ) -> list[Run]:
        """Return those of the runs, in their order, for which their deployments have free slots.

        `found` are the deployments as they were just read, and `offered` the deployments of the
        offers that were open before: the server may not count their slots yet. After a refused
        claim one run is admitted, and the next when its claim was accepted: others use the slots,
        too.
        """
        limits = {id_: limit for id_, it in found.items() if (limit := limit_of(it))}
        for id_ in found:
            self._limit_of.pop(id_, None)
        self._limit_of.update((id_, limit.id) for id_, limit in limits.items())
        taken = Counter(self._limit_of[id_] for id_ in offered if id_ in self._limit_of)
        for limit in limits.values():
            if limit.free == 0 and not taken[limit.id]:
                self._full_until[limit.id] = now + FULL_SECONDS
        admitted = []
        for run in runs:
            if run.deployment_id and (limit := limits.get(run.deployment_id)):
                if taken[limit.id] >= self._free(limit):
                    self._short.add(limit.id)
                    continue
                taken[limit.id] += 1
            admitted.append(run)
        return admitted

    def _free(self, limit: Limit) -> float:
        return min(1, limit.free) if limit.id in self._contested else limit.free


def limit_of(deployment: Mapping[str, Any]) -> Limit | None:
    """Return the limit of a deployment, as Prefect returned it; None if it has none."""
    limit = _decode(deployment)
    options = deployment.get("concurrency_options")
    cancels = isinstance(options, dict) and options.get("collision_strategy") == "CANCEL_NEW"
    return Limit(limit.id, _free_slots(limit, cancels=cancels)) if limit else None


def why_it_waits(deployment: Mapping[str, Any]) -> str:
    """Return why no run of the deployment is claimed; "" if one of its slots is free."""
    limit, found = _decode(deployment), limit_of(deployment)
    if limit is None or found is None or found.free:
        return ""
    if not limit.active:
        return "AwaitingConcurrencySlot: the concurrency limit of the deployment is not active."
    return (
        "AwaitingConcurrencySlot: the concurrency limit of the deployment is reached: "
        f"{limit.active_slots} of {limit.limit} slots are taken. The run starts when one is free; "
        "to run more at once, raise the limit."
    )


def _decode(deployment: Mapping[str, Any]) -> ConcurrencyLimit | None:
    try:
        return _limit.validate_python(deployment.get("global_concurrency_limit"))
    except ValidationError:
        return None


def _free_slots(limit: ConcurrencyLimit, *, cancels: bool) -> float:
    if limit.limit == 0 or not limit.active:
        return 0  # Prefect refuses every claim
    if cancels or limit.slot_decay_per_second:
        # A claim on one run too many cancels the run; a slot that decays becomes free by itself.
        return UNLIMITED
    return max(0, limit.limit - limit.active_slots)


_limit = TypeAdapter(ConcurrencyLimit | None)
