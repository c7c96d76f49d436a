"""Lines in a flow run's own log, sent in batches.

A line that cannot be sent is dropped after its batch fails: logs explain, states decide.
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

LOGGER_NAME = "prefect.flow_runs.worker"  # as the stock worker's, so that the UI files it alike
FLUSH_SECONDS = 1.0
BATCH_SIZE = 200
MAX_PENDING = 10_000


class RunLogSender:
    """A bounded buffer of log lines and the loop that sends them."""

    def __init__(self, api: PrefectApi, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._api = api
        self._clock = clock
        self._lines: deque[dict[str, Any]] = deque(maxlen=MAX_PENDING)

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

    async def run(self) -> None:
        """Send what is queued, for ever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Send one batch, if there is any."""
        count = min(BATCH_SIZE, len(self._lines))
        batch = [self._lines.popleft() for _ in range(count)]
        if not batch:
            return
        try:
            await self._api.write_logs(batch)
        except OperatorError as error:
            log.warning("%d run log lines were not sent: %s", len(batch), error)
