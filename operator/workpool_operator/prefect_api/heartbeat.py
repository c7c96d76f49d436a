"""Sends the heartbeats of a binding's worker, which keep it ONLINE and its pool READY."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api.client import PrefectApi

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


class Heartbeat:
    """Sends a heartbeat of `worker` every `every_seconds`, while `serves()` returns True."""

    def __init__(
        self,
        api: PrefectApi,
        *,
        worker: str,
        every_seconds: float,
        serves: Callable[[], bool],
    ) -> None:
        self._api = api
        self._worker = worker
        self._every_seconds = every_seconds
        self._serves = serves

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            if not self._serves():
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                await self._api.heartbeat(self._worker, every_seconds=self._every_seconds)
                await asyncio.sleep(self._every_seconds)
            except OperatorError as error:
                log.debug("heartbeat of %s: %s", self._worker, error)
                await asyncio.sleep(RETRY_SECONDS)
