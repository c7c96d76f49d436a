"""The binding's status: made from what the session knows (pure), written only when it changed.

At most one write per second, and none while nothing changes but `lastPollTime`, which moves every
30 seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from workpool_operator.api import v1alpha1
from workpool_operator.binding.conditions import (
    CLAIMING,
    READY,
    ConditionState,
    ServingState,
    as_status,
    claiming,
    ready,
)
from workpool_operator.binding.context import Binding
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.kube.client import MERGE_PATCH, KubernetesClient, Resource
from workpool_operator.prefect_api.models import WorkPool

log = logging.getLogger(__name__)

BINDINGS = Resource(f"/apis/{v1alpha1.GROUP}/{v1alpha1.VERSION}", v1alpha1.PLURAL, dict[str, Any])
POLL_TIME_SECONDS = 30.0

Announce = Callable[[ConditionState], None]


@dataclass(frozen=True, slots=True)
class StatusInput:
    """All that a status is made from."""

    generation: int
    worker_name: str
    server_url: str
    states: dict[str, ConditionState]
    serving: ServingState
    extra_conditions: Mapping[str, ConditionState] = field(default_factory=dict)  # no part of Ready
    server_version: str | None = None
    pool: WorkPool | None = None
    running: int = 0
    pending: int = 0
    queued: int = 0
    polled_at: datetime | None = None


def build_status(sight: StatusInput, *, before: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The whole status; `before` is the last one, for what only moves with a change."""
    summaries = {
        READY: ready(sight.states, sight.serving),
        CLAIMING: claiming(sight.states, sight.serving),
    }
    conditions = as_status(
        {**summaries, **sight.states, **sight.extra_conditions},
        before=before.get("conditions") or [],
        generation=sight.generation,
        now=now,
    )
    pool = sight.pool
    return {
        "observedGeneration": sight.generation,
        "workerName": sight.worker_name,
        "workPool": {
            "id": str(pool.id) if pool else None,
            "type": pool.type if pool else None,
            "paused": pool.is_paused if pool else None,
        },
        "server": {"url": sight.server_url, "version": sight.server_version},
        "runs": {"running": sight.running, "pending": sight.pending, "queued": sight.queued},
        "lastPollTime": _poll_time(sight.polled_at, before.get("lastPollTime")),
        "conditions": conditions,
    }


def _poll_time(polled_at: datetime | None, before: str | None) -> str | None:
    if polled_at is None:
        return before
    if before:
        age = polled_at - datetime.fromisoformat(before)
        if age.total_seconds() < POLL_TIME_SECONDS:
            return before
    return polled_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class StatusWriter:
    """Writes one binding's status; `announce` is called when Ready or its reason changed."""

    def __init__(
        self,
        kube: KubernetesClient,
        binding: Binding,
        *,
        announce: Announce,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._path = BINDINGS.path(binding.namespace, binding.name) + "/status"
        self._key = binding.key
        self._announce = announce
        self._written = binding.status

    @property
    def written(self) -> dict[str, Any]:
        """The last status that was written, or the one before the first."""
        return self._written

    async def write(self, sight: StatusInput) -> None:
        """Patch what changed.

        Raises:
            KubernetesUnavailable: nothing was learnt; call again.
            KubernetesRefused: it is not written; call again when that may have changed.
        """
        before = self._written
        status = build_status(sight, before=before, now=self._clock.now())
        if status == before:
            return
        body = {"status": status}
        await self._kube.request("PATCH", self._path, body=body, content_type=MERGE_PATCH)
        self._written = status
        self._announce_change(before, status)

    def _announce_change(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """One line, and one Event unless it is only a beginning or an end."""
        then, now = _ready_of(before) or {}, _ready_of(after) or {}
        told = ("status", "reason", "message")
        if all(then.get(key) == now.get(key) for key in told):
            return
        verdict = ConditionState(*(now[key] for key in told))
        level = logging.WARNING if verdict.status == "False" else logging.INFO
        ready = f"Ready={verdict.status} {verdict.reason}"
        log.log(level, "%s: %s: %s", self._key, ready, verdict.message)
        if verdict.status != "Unknown" and then.get("reason") != verdict.reason:
            self._announce(verdict)


def _ready_of(status: dict[str, Any]) -> dict[str, Any] | None:
    conditions = status.get("conditions") or []
    return next((c for c in conditions if c.get("type") == READY), None)
