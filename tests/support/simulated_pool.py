"""A work pool of a simulated server, to test how many runs are requested and when.

It shows what a poller does, not that a feature works: that is for the tests with real servers. The
server handles one request at a time, each in a fixed number of seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.support.clock import NOON
from tests.support.simulated_time import SimulatedClock
from tests.support.snapshots import id_of, run, state
from workpool_operator.prefect_api.models import Run, SetStateResult, State, WorkPool
from workpool_operator.prefect_api.models import WorkQueue as QueueView

QUEUE = QueueView(id_of("queue"), "default", priority=1)
ACTIVE = ("PENDING", "RUNNING")
WAIT_SECONDS = 30  # for which the server delays a run that it refuses to claim


def due(
    name: str,
    *,
    queue: QueueView = QUEUE,
    deployment: str | None = "d",
    at: float = 0.0,
) -> Run:
    """A run that is due `at` seconds after noon."""
    return replace(
        run(state("SCHEDULED", id_=f"scheduled-{name}")),
        id=id_of(name),
        name=name,
        state=None,
        state_id=id_of(f"scheduled-{name}"),
        deployment_id=id_of(deployment) if deployment else None,
        work_queue_id=queue.id,
        next_scheduled_start_time=NOON + timedelta(seconds=at),
    )


@dataclass
class SimulatedPool:
    """The pool, its queues and runs; a deployment in `limits` has so many slots.

    `seconds` is how long the server takes for a request of each name, and `calls` counts them.
    """

    runs: list[Run] = field(default_factory=list)
    queues: list[QueueView] = field(default_factory=lambda: [QUEUE])
    limit: int | None = None
    limits: dict[UUID, int] = field(default_factory=dict)
    taken_elsewhere: Counter[UUID] = field(default_factory=Counter)  # between a read and the claim
    seconds: dict[str, float] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    requested: list[int] = field(default_factory=list)  # the limit of each poll
    refused: list[tuple[float, str]] = field(default_factory=list)
    claimed: list[tuple[float, str]] = field(default_factory=list)
    fails: Exception | None = None
    pool: str = "etl"

    def __post_init__(self) -> None:
        self._busy = asyncio.Lock()
        self._clock = SimulatedClock()

    def end(self, name: str) -> None:
        """End the run."""
        self._change(id_of(name), "COMPLETED")

    def claim(self, run_id: UUID) -> None:
        """Claim the run."""
        self._change(run_id, "PENDING")

    def awaiting_slot(self, name: str) -> State:
        """Return the state of a run whose claim is refused now."""
        due_at = self._clock.now() + timedelta(seconds=WAIT_SECONDS)
        id_ = f"{name}-{self._clock.monotonic()}"
        return state("SCHEDULED", "AwaitingConcurrencySlot", id_=id_, scheduled_time=due_at)

    # What PrefectApi requests

    async def poll(self, *, queues: Sequence[str], before: Any, limit: int) -> list[Run]:
        await self._serve("poll")
        self.requested.append(limit)
        found: list[Run] = []
        for queue in sorted(self.queues, key=lambda it: it.priority):
            if not queues or queue.name in queues:
                room = self._room(queue.concurrency_limit, queue)
                found += [each for each in self._scheduled(before) if _is_in(each, queue)][:room]
        return found[: self._room(self.limit)][:limit]

    async def filter_runs(self, body: dict[str, Any]) -> list[Run]:
        await self._serve("filter_runs")
        wanted, found = body["flow_runs"], []
        others = body.get("deployments", {}).get("id", {}).get("not_any_", ())
        before = wanted["next_scheduled_start_time"]["before_"]
        for each in self._scheduled(before):
            if str(each.work_queue_id) not in body["work_pool_queues"]["id"]["any_"]:
                continue
            if str(each.id) in wanted["id"]["not_any_"]:
                continue
            if "deployments" in body and str(each.deployment_id) in (*others, "None"):
                continue
            if "deployment_id" in wanted and each.deployment_id is not None:
                continue
            found.append(each)
        return found[: body["limit"]]

    async def read_run(self, run_id: UUID) -> Run:
        await self._serve("read_run")
        found = next(each for each in self.runs if each.id == run_id)
        return replace(found, state=state(found.state_type, id_=str(found.state_id)))

    async def count_runs(self, filters: dict[str, Any]) -> int:
        await self._serve("count_runs")
        if filters["flow_runs"]["state"]["type"]["any_"] == ["SCHEDULED"]:
            before = filters["flow_runs"]["next_scheduled_start_time"]["before_"]
            return len(self._scheduled(before))
        ids = filters.get("work_pool_queues", {}).get("id", {}).get("any_")
        return sum(
            each.state_type in ACTIVE and (ids is None or str(each.work_queue_id) in ids)
            for each in self.runs
        )

    async def work_pool(self) -> WorkPool:
        await self._serve("work_pool")
        return WorkPool(id_of("pool"), self.pool, "kubernetes", concurrency_limit=self.limit)

    async def work_queues(self) -> list[QueueView]:
        await self._serve("work_queues")
        return self.queues

    async def deployments(self, ids: set[UUID]) -> dict[UUID, dict[str, Any]]:
        await self._serve("deployments")
        return {id_: self._deployment(id_) for id_ in ids}

    async def set_state(self, run_id: UUID, proposed: dict[str, Any]) -> SetStateResult:
        await self._serve("set_state")
        found = next(each for each in self.runs if each.id == run_id)
        seconds = self._clock.monotonic()
        if found.deployment_id in self.limits and not self._may_claim(found.deployment_id):
            refusal = self.awaiting_slot(found.name)
            later = refusal.state_details.scheduled_time
            self._change(run_id, "SCHEDULED", next_scheduled_start_time=later)
            self.refused.append((seconds, found.name))
            return SetStateResult("REJECT", refusal)
        self._change(run_id, "PENDING")
        self.claimed.append((seconds, found.name))
        accepted = state(
            "PENDING",
            id_=f"claim-{found.name}",
            transition_id=UUID(proposed["state_details"]["transition_id"]),
            scheduled_time=found.next_scheduled_start_time,
        )
        return SetStateResult("ACCEPT", accepted)

    async def _serve(self, name: str) -> None:
        async with self._busy:
            await asyncio.sleep(self.seconds.get(name, 0.001))
        self.calls[name] += 1
        if self.fails:
            raise self.fails

    def _scheduled(self, before: Any) -> list[Run]:
        before = before if isinstance(before, str) else before.isoformat()
        scheduled = [
            each
            for each in self.runs
            if each.state_type == "SCHEDULED"
            and each.next_scheduled_start_time
            and each.next_scheduled_start_time.isoformat() <= before
        ]
        return sorted(scheduled, key=lambda each: each.next_scheduled_start_time or NOON)

    def _room(self, limit: int | None, queue: QueueView | None = None) -> int | None:
        runs = [each for each in self.runs if queue is None or _is_in(each, queue)]
        active = [each for each in runs if each.state_type in ACTIVE]
        return None if limit is None else max(0, limit - len(active))

    def _free(self, deployment: UUID) -> int:
        active = [r for r in self.runs if r.state_type in ACTIVE and r.deployment_id == deployment]
        return self.limits[deployment] - len(active)

    def _may_claim(self, deployment: UUID) -> bool:
        return self._free(deployment) > self.taken_elsewhere[deployment]

    def _deployment(self, id_: UUID) -> dict[str, Any]:
        limit = None
        if (most := self.limits.get(id_)) is not None:
            limit = {"id": str(id_), "limit": most, "active_slots": most - self._free(id_)}
        return {"id": str(id_), "global_concurrency_limit": limit}

    def _change(self, run_id: UUID, state_type: str, **fields: Any) -> None:
        self.runs = [
            replace(each, state_type=state_type, state_name=state_type.title(), **fields)
            if each.id == run_id
            else each
            for each in self.runs
        ]


def _is_in(each: Run, queue: QueueView) -> bool:
    return each.work_queue_id == queue.id
