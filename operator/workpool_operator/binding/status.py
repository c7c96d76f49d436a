"""The binding's status: made from what the session knows (pure), written only when it changed.

At most one write per second, and none while nothing changes but `lastPollTime`, which moves every
30 seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from workpool_operator.binding import model
from workpool_operator.binding.conditions import READY, Situation, Verdict, as_status, ready
from workpool_operator.errors import KubernetesRefused
from workpool_operator.kube.client import KubernetesClient, Resource
from workpool_operator.prefect_api.views import WorkPool

log = logging.getLogger(__name__)

BINDINGS = Resource(f"/apis/{model.GROUP}/{model.VERSION}", model.PLURAL)
POLL_TIME_SECONDS = 30.0

Announce = Callable[[Verdict], None]


@dataclass(frozen=True, slots=True)
class Sight:
    """All that a status is made from."""

    generation: int
    worker_name: str
    server_url: str
    verdicts: dict[str, Verdict]
    situation: Situation
    server_version: str | None = None
    pool: WorkPool | None = None
    running: int = 0
    pending: int = 0
    queued: int = 0
    polled_at: datetime | None = None


@dataclass(slots=True)
class Written:
    """The status as it was last written, and when."""

    status: dict[str, Any] = field(default_factory=dict)
    at: float = float("-inf")


def compose(sight: Sight, *, before: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The whole status; `before` is the last one, for what only moves with a change."""
    summary = ready(sight.verdicts, sight.situation)
    conditions = as_status(
        {READY: summary, **sight.verdicts},
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
        *,
        namespace: str,
        name: str,
        before: dict[str, Any],
        announce: Announce,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._written = Written(status=before)
        self._announce = announce

    async def write(self, sight: Sight) -> None:
        """Patch what changed.

        Raises:
            KubernetesUnavailable: nothing was learnt; call again.
        """
        before = self._written.status
        status = compose(sight, before=before, now=datetime.now(UTC))
        if status == before:
            return
        path = BINDINGS.path(self._namespace, self._name) + "/status"
        try:
            await self._kube.request(
                "PATCH",
                path,
                body={"status": status},
                content_type="application/merge-patch+json",
            )
        except KubernetesRefused as refused:
            log.warning("status of %s/%s: %s", self._namespace, self._name, refused)
        self._say(before, status)
        self._written = Written(status=status, at=time.monotonic())

    def _say(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        then, now = _ready_of(before), _ready_of(after)
        if now and (then or {}).get("reason") != now["reason"]:
            self._announce(Verdict(now["status"], now["reason"], now["message"]))


def _ready_of(status: dict[str, Any]) -> dict[str, Any] | None:
    conditions = status.get("conditions") or []
    return next((c for c in conditions if c.get("type") == READY), None)
