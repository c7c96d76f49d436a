"""Repeats a request with exponential backoff until the server answers."""

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
    """Return the answer, repeating `request` while the server is unavailable. Waits without limit.

    An attempt without an answer may have had its effect: `request` must be safe to repeat.
    """
    delay, longest = BACKOFF_SECONDS
    while True:
        try:
            return await request()
        except (httpx.HTTPError, Unavailable) as error:
            if not is_transient(error):
                raise
            retry_after = getattr(error, "retry_after", None) or 0.0
            log.warning("%s: %s; retrying in %.0f s", about, error, max(retry_after, delay))
        await asyncio.sleep(max(retry_after, delay * random.uniform(0.8, 1.2)))
        delay = min(delay * 2, longest)


def is_transient(error: Exception) -> bool:
    """Return whether repeating the request can help: no answer, a rate limit or a server error."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status in (408, 429) or status >= 500
    return isinstance(error, httpx.TransportError | Unavailable)
