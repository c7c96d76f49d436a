"""Sends every request exactly once.

Prefect's client sends a request again if its answer was lost, for up to 65 s, and waits for
`Retry-After` within the call. A claim that is sent again so late can run a finished run again
(docs/races.md, 1, 2). The client retries on httpx's exceptions and on the status codes below, so
this transport turns both into PrefectUnavailable, on which it does not. The caller decides about
retries.
"""

from __future__ import annotations

from http import HTTPStatus

import httpx

from workpool_operator import connection_errors
from workpool_operator.errors import PrefectThrottled, PrefectUnavailable, PrefectUntrusted

RETRIED_BY_THE_CLIENT = frozenset({408, 429, 502, 503})


class OnceTransport(httpx.AsyncHTTPTransport):
    """httpx's transport, which raises PrefectUnavailable where Prefect's client would retry."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request once."""
        try:
            response = await super().handle_async_request(request)
            if response.status_code not in RETRIED_BY_THE_CLIENT:
                await response.aread()
                return response
            await response.aclose()
        except httpx.TransportError as error:
            kind = PrefectUntrusted if connection_errors.is_untrusted(error) else PrefectUnavailable
            raise kind(f"{_named(request)}: {connection_errors.explain(error)}") from error
        wait = response.headers.get("Retry-After", "")
        throttled = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
        kind = PrefectThrottled if throttled else PrefectUnavailable
        raise kind(
            f"{_named(request)}: HTTP {response.status_code}",
            retry_after=float(wait) if wait.isdigit() else None,
        )


def _named(request: httpx.Request) -> str:
    """Return method and path, without host and query: a URL can contain a password."""
    return f"{request.method} {request.url.path}"
