"""Ask again what had no answer, ever more slowly, until there is one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx

from workpool_operator.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
BACKOFF_SECONDS = (0.5, 30.0)


async def retry_unavailable(request: Callable[[], Awaitable[T]], *, about: str) -> T:
    """Return the answer; `request` decides by itself what of its last attempt still holds."""
    delay, longest = BACKOFF_SECONDS
    while True:
        try:
            return await request()
        except (httpx.HTTPError, Unavailable) as error:
            if not is_transient(error):
                raise
            log.warning("%s: %s; again in %.0f s", about, error, delay)
            asked = getattr(error, "retry_after", None) or 0.0
        await asyncio.sleep(max(asked, delay * random.uniform(0.8, 1.2)))
        delay = min(delay * 2, longest)


def is_transient(error: Exception) -> bool:
    """The server did not answer, or asked to come back: nobody has to change anything."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status in (408, 429) or status >= 500
    return isinstance(error, httpx.TransportError | Unavailable)
