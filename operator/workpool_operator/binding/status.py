"""Builds a binding's status (pure) and writes it when it changed.

There is at most one write per second. `lastPollTime` alone causes one every 30 seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
from workpool_operator.errors import OperatorError
from workpool_operator.kube import events
from workpool_operator.kube.client import EVENTS, MERGE_PATCH, KubernetesClient, Resource
from workpool_operator.prefect_api.models import WorkPool

log = logging.getLogger(__name__)

BINDINGS = Resource(f"/apis/{v1alpha1.API_VERSION}", v1alpha1.PLURAL, dict[str, Any])
POLL_TIME_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class StatusInput:
    """Everything that a status is built from."""

    generation: int
    worker_name: str
    pool_name: str
    server_url: str
    states: dict[str, ConditionState]
    serving: ServingState
    extra_conditions: Mapping[str, ConditionState] = field(default_factory=dict)  # not for Ready
    holder: str = ""
    server_version: str | None = None
    pool: WorkPool | None = None
    synced_template: str = ""  # "": as before
    job_namespaces: tuple[str, ...] = ()
    running: int = 0
    pending: int = 0
    queued: int = 0
    polled_at: datetime | None = None


def conditions_of(inputs: StatusInput) -> dict[str, ConditionState]:
    """Return every condition by its type."""
    return {
        READY: ready(inputs.states, inputs.serving),
        CLAIMING: claiming(inputs.states, inputs.serving),
        **inputs.states,
        **inputs.extra_conditions,
    }


def build_status(inputs: StatusInput, *, before: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the whole status. `before` is the last one, for the times that it keeps."""
    conditions = as_status(
        conditions_of(inputs),
        before=before.get("conditions") or [],
        generation=inputs.generation,
        now=now,
    )
    pool = inputs.pool
    return {
        "observedGeneration": inputs.generation,
        "workerName": inputs.worker_name,
        "holderIdentity": inputs.holder or None,
        "workPool": {
            "name": inputs.pool_name or None,
            "id": str(pool.id) if pool else None,
            "type": pool.type if pool else None,
            "paused": pool.is_paused if pool else None,
            "syncedTemplate": inputs.synced_template or synced_template(before) or None,
        },
        "jobNamespaces": [*inputs.job_namespaces] or None,
        "server": {"url": inputs.server_url, "version": inputs.server_version},
        "runs": {"running": inputs.running, "pending": inputs.pending, "queued": inputs.queued},
        "lastPollTime": _poll_time(inputs.polled_at, before.get("lastPollTime")),
        "conditions": conditions,
    }


def synced_template(status: Mapping[str, Any]) -> str:
    """Return the digest of the last template that the binding's ConfigMap and its pool both had, ""
    if there was none."""
    return (status.get("workPool") or {}).get("syncedTemplate") or ""


def _poll_time(polled_at: datetime | None, before: str | None) -> str | None:
    if polled_at is None:
        return before
    if before:
        age = polled_at - datetime.fromisoformat(before)
        if age.total_seconds() < POLL_TIME_SECONDS:
            return before
    return polled_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class StatusWriter:
    """Writes one binding's status, and an Event if the reason of Ready changed."""

    def __init__(
        self, kube: KubernetesClient, binding: Binding, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._kube = kube
        self._binding = binding
        self._clock = clock
        self._path = BINDINGS.path(binding.namespace, binding.name) + "/status"
        self._written = binding.status
        self._written_for: StatusInput | None = None

    @property
    def written(self) -> dict[str, Any]:
        """The last status that was written; before that, the one that the binding had."""
        return self._written

    async def write(self, inputs: StatusInput) -> None:
        """Write the status if it changed.

        Raises:
            LeaseNotHeld: it is not written, because another replica may write it.
            KubernetesUnavailable: it may or may not be written; call again.
            KubernetesRefused: it is not written.
        """
        if inputs == self._written_for:
            return
        before = self._written
        status = build_status(inputs, before=before, now=self._clock.now())
        if status == before:
            self._written_for = inputs
            return
        self._binding.check_lease()
        body = {"status": status}
        await self._kube.request("PATCH", self._path, body=body, content_type=MERGE_PATCH)
        self._written, self._written_for = status, inputs
        await self._announce_change(before, status)

    async def _announce_change(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Log a change of Ready. Post an Event if its reason changed and Ready is not Unknown."""
        then, now = _ready_of(before) or {}, _ready_of(after) or {}
        fields = ("status", "reason", "message")
        if all(then.get(name) == now.get(name) for name in fields):
            return
        ready = ConditionState(*(now[name] for name in fields))
        level = logging.WARNING if ready.status == "False" else logging.INFO
        text = "%s: Ready=%s %s: %s"
        log.log(level, text, self._binding.key, ready.status, ready.reason, ready.message)
        if ready.status != "Unknown" and then.get("reason") != ready.reason:
            await self._post(ready)

    async def _post(self, ready: ConditionState) -> None:
        event = events.event(
            self._binding.reference,
            type_="Normal" if ready.status == "True" else "Warning",
            reason=ready.reason,
            message=ready.message or ready.reason,
            now=self._clock.now(),
        )
        try:
            await self._kube.create(EVENTS, self._binding.namespace, event)
        except OperatorError as error:  # the status says the same
            log.debug("%s: cannot post an Event: %s", self._binding.key, error)


def _ready_of(status: dict[str, Any]) -> dict[str, Any] | None:
    conditions = status.get("conditions") or []
    return next((c for c in conditions if c.get("type") == READY), None)
