"""A transport that sends every request exactly once.

Prefect's client resends a request whose answer was lost, for up to 65 s, and sleeps through
`Retry-After` inside the call; a claim resent that late re-runs a finished run (docs/races.md, 1,
2). The retry loop acts on httpx's own exceptions and on the status codes below, so both leave here
as `PrefectUnavailable`, which it does not know. Who asked decides whether to ask again.
"""

from __future__ import annotations

import httpx

from workpool_operator import connection_errors
from workpool_operator.errors import PrefectUnavailable, PrefectUntrusted

RETRIED_BY_THE_CLIENT = frozenset({408, 429, 502, 503})


class OnceTransport(httpx.AsyncHTTPTransport):
    """httpx's transport with lost answers and requests to come back as `PrefectUnavailable`."""

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
        raise PrefectUnavailable(
            f"{_named(request)}: HTTP {response.status_code}",
            retry_after=float(wait) if wait.isdigit() else None,
        )


def _named(request: httpx.Request) -> str:
    """Without host and query: an address may hold a password."""
    return f"{request.method} {request.url.path}"
