"""Sends log lines to the logs of flow runs, in batches.

A batch that cannot be sent is dropped: logs only explain, states decide.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api.client import PrefectApi

log = logging.getLogger(__name__)

LOGGER_NAME = "prefect.flow_runs.worker"  # the stock worker's, so that the UI shows it the same
INTERVAL_SECONDS = 1.0
BATCH_SIZE = 200
MAX_PENDING = 10_000


class RunLogSender:
    """Queues log lines, at most `MAX_PENDING`, and sends them in a loop."""

    def __init__(self, api: PrefectApi, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._api = api
        self._clock = clock
        self._lines: deque[dict[str, Any]] = deque(maxlen=MAX_PENDING)
        self._written = asyncio.Event()
        self._sending = asyncio.Lock()

    def write(self, run_id: UUID, message: str, *, level: int = logging.INFO) -> None:
        """Queue one line."""
        self._lines.append(
            {
                "name": LOGGER_NAME,
                "level": level,
                "message": message,
                "timestamp": self._clock.now().isoformat(),
                "flow_run_id": str(run_id),
            }
        )
        self._written.set()

    async def run(self) -> None:
        """Send the queued lines until cancelled."""
        while True:
            await self._written.wait()
            await asyncio.sleep(INTERVAL_SECONDS)
            self._written.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send the queued lines, after the batch that is being sent."""
        async with self._sending:
            while self._lines:
                await self._send_batch()

    async def _send_batch(self) -> None:
        count = min(BATCH_SIZE, len(self._lines))
        batch = [self._lines.popleft() for _ in range(count)]
        try:
            await self._api.write_logs(batch)
        except OperatorError as error:
            log.warning("%d run log lines were not sent: %s", len(batch), error)
