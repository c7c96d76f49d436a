"""Publishes as Events of a binding which runs it puts off, for what Prefect does not store.

If Prefect refuses a claim and gives the run a later time, everybody can read that time there. For
any other refusal only the operator's memory knows how long it waits: `workpool-operator explain`
reads it from these Events. They only explain: there are at most `BURST` at once and one each
`REFILL_SECONDS`, and one that cannot be posted is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import UTC, datetime
from typing import Any

from workpool_operator.binding.context import Binding
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError
from workpool_operator.kube import events
from workpool_operator.kube.client import EVENTS, KubernetesClient
from workpool_operator.prefect_api.models import Run

log = logging.getLogger(__name__)

CLAIM_REFUSED = "ClaimRefused"
BURST = 10
REFILL_SECONDS = 6.0


class ClaimEvents:
    """Posts the Events of one binding, in a loop of its own."""

    def __init__(
        self, kube: KubernetesClient, binding: Binding, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._kube = kube
        self._binding = binding
        self._clock = clock
        self._waiting: deque[dict[str, Any]] = deque(maxlen=BURST)
        self._added = asyncio.Event()
        self._tokens, self._refilled_at = float(BURST), clock.monotonic()

    def claim_refused(self, run: Run, *, until: datetime, why: str) -> None:
        """Note that the run is not claimed before `until`, unless there were too many Events."""
        if not self._take():
            return
        when = until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = f"Flow run {run.name!r} ({run.id}) is claimed not before {when}: {why}"
        self._waiting.append(
            events.event(
                self._binding.reference,
                type_="Warning",
                reason=CLAIM_REFUSED,
                message=text,
                now=self._clock.now(),
            )
        )
        self._added.set()

    async def run(self) -> None:
        """Post what was noted until cancelled."""
        while True:
            await self._added.wait()
            self._added.clear()
            while self._waiting:
                await self._post(self._waiting.popleft())

    async def _post(self, event: dict[str, Any]) -> None:
        try:
            await self._kube.create(EVENTS, self._binding.namespace, event)
        except OperatorError as error:
            log.debug("%s: cannot post an Event: %s", self._binding.key, error)

    def _take(self) -> bool:
        """Take a token of the bucket; return False if it is empty."""
        now = self._clock.monotonic()
        grown = self._tokens + (now - self._refilled_at) / REFILL_SECONDS
        self._tokens, self._refilled_at = min(float(BURST), grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
