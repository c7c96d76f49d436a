"""Posts the operator's own Kubernetes Events, without delaying what they report.

Events only explain: of a burst, more than `burst` are dropped until a token is refilled each
`refill_seconds`, and one that cannot be posted is dropped, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Literal

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError
from workpool_operator.kube import events
from workpool_operator.kube.client import EVENTS, KubernetesClient

log = logging.getLogger(__name__)

BURST = 10
REFILL_SECONDS = 6.0


class EventRecorder:
    """Queues Events, and posts them in a loop."""

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        burst: int = BURST,
        refill_seconds: float = REFILL_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._burst, self._refill_seconds = burst, refill_seconds
        self._clock = clock
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=burst)
        self._tokens, self._refilled_at = float(burst), clock.monotonic()

    def event(
        self,
        about: Mapping[str, str],
        type_: Literal["Normal", "Warning"],
        reason: str,
        message: str,
    ) -> None:
        """Queue an Event on the object that `about` refers to, unless there were too many."""
        if not self._take():
            return
        now = self._clock.now()
        made = events.event(about, type_=type_, reason=reason, message=message, now=now)
        if self._waiting.full():
            self._waiting.get_nowait()  # drops the oldest one
        self._waiting.put_nowait(made)

    async def run(self) -> None:
        """Post what is queued until cancelled."""
        while True:
            await self._post(await self._waiting.get())

    async def _post(self, event: dict[str, Any]) -> None:
        namespace = event["metadata"]["namespace"]
        try:
            await self._kube.create(EVENTS, namespace, event)
        except OperatorError as error:
            about = event["involvedObject"]
            log.debug("cannot post an Event on %s %s: %s", about["kind"], about["name"], error)

    def _take(self) -> bool:
        """Take a token of the bucket; return False if it is empty."""
        now = self._clock.monotonic()
        grown = self._tokens + (now - self._refilled_at) / self._refill_seconds
        self._tokens, self._refilled_at = min(float(self._burst), grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
