"""The worker record of a binding: it keeps the pool READY and the worker ONLINE."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api.client import PrefectApi

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


class Heartbeat:
    """Says every `every_seconds` that `worker` is there, while `serves()`."""

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
        """Beat for ever."""
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
