"""Finds the flow run that a user names, and reads what Prefect knows of it.

What cannot be read is noted and left out; only the run itself is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from workpool_operator.cli.connections import PatientPrefectApi
from workpool_operator.cli.explain.snapshot import (
    Deployment,
    Holder,
    Limit,
    PrefectFacts,
    Unread,
)
from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api import lookup
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs import deployment_limits, due_runs

T = TypeVar("T")
Object = dict[str, Any]

_LEASED = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
_LISTED = 50


@dataclass(frozen=True, slots=True)
class Found:
    """The run that the user named; `run` is None if the server has none of that id, or if the
    deployment has no run. `deployment` is set if the user named that."""

    run_id: str
    run: Run | None = None
    deployment: Object | None = None


async def find_run(api: PrefectApi, name: str) -> Found:
    """Return the run of that id or name, or the latest run of FLOW/DEPLOYMENT.

    Raises:
        NotFound, Ambiguous: there is not exactly one of that name.
        OperatorError: the server does not answer.
    """
    if lookup.is_id(name):
        return Found(name, await api.read_run(UUID(name)))
    if "/" not in name:
        run = await lookup.run(api, name)
        return Found(str(run.id), run)
    deployment = await lookup.deployment(api, name)
    latest = await lookup.latest_run(api, str(deployment["id"]))
    return Found(str(latest.id) if latest else "", latest, deployment)


@dataclass
class PrefectReader:
    """Reads what surrounds a run; `unread` is what the server refused or did not answer."""

    api: PrefectApi
    unread: list[Unread] = field(default_factory=list)

    async def read(self, found: Found) -> PrefectFacts:
        """Return the facts about the run."""
        run = found.run
        history = await self._try("the run's states", self.api.history(run.id), []) if run else []
        pool_name = str(run.document.get("work_pool_name") or "") if run else ""
        pool, pool_id, queue, workers = await self._pool(run, pool_name)
        return PrefectFacts(
            url=self.api.server.address,
            now=self.api.clock.now(),
            run=run,
            history=tuple(history),
            deployment=await self._deployment(found),
            queue=queue,
            pool=pool,
            pool_id=pool_id,
            workers=workers,
            by_deployment=found.deployment is not None,
        )

    async def _pool(
        self, run: Run | None, name: str
    ) -> tuple[Limit | None, UUID | None, Limit | None, tuple[str, ...] | None]:
        if run is None or not name:
            return None, None, None, None
        async with PatientPrefectApi(self.api.server, pool=name) as api:
            found = await self._try(f"work pool '{name}'", api.work_pool(), None)
            if found is None:
                return None, None, None, None
            queue = await self._queue(api, run)
            listed = await self._try(f"the workers of work pool '{name}'", api.workers(), None)
        in_pool = {"work_pools": {"id": {"any_": [str(found.id)]}}}
        pool = await self._limit(name, found.is_paused, found.concurrency_limit, in_pool)
        workers = None if listed is None else tuple(w.name for w in listed if w.status == "ONLINE")
        return pool, found.id, queue, workers

    async def _queue(self, api: PrefectApi, run: Run) -> Limit | None:
        queues = await self._try("the pool's work queues", api.work_queues(), [])
        queue = next((each for each in queues if each.id == run.work_queue_id), None)
        if queue is None:
            return None
        in_queue = {"work_pool_queues": {"id": {"any_": [str(queue.id)]}}}
        return await self._limit(queue.name, queue.is_paused, queue.concurrency_limit, in_queue)

    async def _limit(
        self, name: str, paused: bool, limit: int | None, where: dict[str, Any]
    ) -> Limit:
        """Return the limit, with the runs that take its slots if there is a limit."""
        holders: tuple[Holder, ...] = ()
        taken = 0
        if limit is not None:
            filters = {**where, "flow_runs": due_runs.ACTIVE}
            taken = await self._try(f"the runs of '{name}'", self.api.count_runs(filters), 0)
            holders = await self._holders(filters)
        return Limit(name=name, paused=paused, limit=limit, taken=taken, holders=holders)

    async def _holders(self, filters: dict[str, Any]) -> tuple[Holder, ...]:
        body = {**filters, "sort": "START_TIME_ASC", "limit": _LISTED}
        runs = await self._try("the runs that take its slots", self.api.filter_runs(body), [])
        return tuple(_holder(run) for run in runs)

    async def _deployment(self, found: Found) -> Deployment | None:
        document = found.deployment
        if document is None and found.run and found.run.deployment_id:
            id_ = found.run.deployment_id
            read = await self._try("its deployment", self.api.deployments([id_]), {})
            document = read.get(id_)
        if document is None:
            return None
        flow = await self._try(
            "its flow", lookup.flow(self.api, str(document["flow_id"])), {"name": "?"}
        )
        schedules = document.get("schedules") or []
        limit = document.get("global_concurrency_limit") or {}
        return Deployment(
            id=UUID(document["id"]),
            name=f"{flow['name']}/{document['name']}",
            paused=bool(document.get("paused")),
            schedules=len(schedules),
            inactive_schedules=tuple(str(s["id"]) for s in schedules if not s.get("active")),
            disabled_automations=await self._disabled_automations(document, found),
            slots=await self._slots(document, limit),
            limit_name=str(limit.get("name") or f"deployment:{document['id']}"),
            why_it_waits=deployment_limits.why_it_waits(document),
        )

    async def _slots(self, document: Object, limit: Object) -> Limit | None:
        if not limit:
            return None
        sharing = await self._sharing(document, limit)
        filters = {
            "deployments": {"id": {"any_": sharing}},
            "flow_runs": _LEASED,
        }
        return Limit(
            name=str(limit.get("name") or ""),
            limit=limit.get("limit"),
            taken=int(limit.get("active_slots") or 0),
            holders=await self._holders(filters),
        )

    async def _sharing(self, document: Object, limit: Object) -> list[str]:
        """Return the ids of the deployments that share the limit."""
        own = str(document["id"])
        if str(limit.get("name") or "").startswith("deployment:"):
            return [own]
        read = self.api.filter("deployments")
        every = await self._try("the deployments that share its limit", read, [])
        same = (d for d in every if (d.get("global_concurrency_limit") or {}).get("id"))
        ids = [d["id"] for d in same if d["global_concurrency_limit"]["id"] == limit.get("id")]
        return ids or [own]

    async def _disabled_automations(self, document: Object, found: Found) -> tuple[str, ...]:
        """Return the paused automations that would run the deployment, which the user named."""
        if found.deployment is None:
            return ()
        read = self.api.filter("automations")
        every = await self._try("the automations", read, [])
        return tuple(
            each["name"]
            for each in every
            if not each.get("enabled", True)
            and any(
                action.get("type") == "run-deployment"
                and action.get("deployment_id") == document["id"]
                for action in each.get("actions") or ()
            )
        )

    async def _try(self, what: str, read: Awaitable[T], default: T) -> T:
        try:
            return await read
        except OperatorError as error:
            self.unread.append(Unread(f"{what} (Prefect)", str(error)))
            return default


def _holder(run: Run) -> Holder:
    since = run.state.timestamp if run.state else None
    started = run.state_type in ("RUNNING", "CANCELLING")
    return Holder(name=run.name, id=str(run.id), state=run.state_name, since=since, started=started)
