"""Builds what `workpool-operator explain` reads, for tests without servers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.support.snapshots import MINE, RUN_ID, WALL, pending, run, state
from workpool_operator.cli.explain.snapshot import (
    BindingFacts,
    ClusterFacts,
    PrefectFacts,
    Snapshot,
)
from workpool_operator.kube.models import Condition
from workpool_operator.prefect_api.models import State

POOL = UUID(int=1)
READY = {"Ready": ("True", "Polling"), "Claiming": ("True", "Polling")}


def conditions(**given: tuple[str, str]) -> tuple[Condition, ...]:
    """`conditions(Ready=("False", "SecretNotFound"))`; the others are True."""
    return tuple(
        Condition(type=type_, status=status, reason=reason, message=f"message of {reason}")
        for type_, (status, reason) in {**READY, **given}.items()
    )


def binding(**fields: Any) -> BindingFacts:
    """A binding that an operator serves and that claims runs."""
    given = {
        "namespace": "data",
        "name": "etl",
        "pool_name": "pool",
        "pool_id": str(POOL),
        "operator": "replica-1",
        "conditions": conditions(),
        "last_poll": WALL,
        "transition_id": MINE,
        **fields,
    }
    return BindingFacts(**given)


def snapshot(
    current: State | None,
    *,
    history: tuple[State, ...] = (),
    prefect: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
    pid: str | None = None,
    **document: Any,
) -> Snapshot:
    """A run in that state, in a pool that the binding serves; `document` is of the run."""
    given = {"work_pool_name": "pool", "work_queue_name": "default", **document}
    read = run(current, pid=pid, **given) if current else None
    facts = PrefectFacts(
        url="http://server/api",
        now=WALL,
        run=replace(read, document=given) if read else None,
        history=history or ((current,) if current else ()),
        pool_id=POOL,
        workers=(),
    )
    known = ClusterFacts(address="the cluster", now=WALL, bindings=(binding(),))
    return Snapshot(
        run_id=str(RUN_ID),
        prefect=replace(facts, **(prefect or {})),
        cluster=replace(known, **(cluster or {})),
    )


def scheduled(**fields: Any) -> State:
    return state("SCHEDULED", **fields)


def claimed(**fields: Any) -> dict[str, Any]:
    """The state and the history of a run that the binding has claimed."""
    before = scheduled(id_="before", at=WALL - timedelta(seconds=10))
    now = pending(at=WALL - timedelta(seconds=5), **fields)
    return {"current": now, "history": (before, now)}
