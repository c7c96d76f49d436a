"""Serves the probes /healthz and /readyz.

Liveness fails only if a loop is stuck: it did not report again within the time that it announced.
An outage of Prefect or Kubernetes does not fail it: the binding's status reports outages.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.http_port import open_port

log = logging.getLogger(__name__)

_FIX = "Choose another with --health-port or WORKPOOL_OPERATOR_HEALTH_PORT."


class Watchdog:
    """Records by when each loop has to report again."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

    def beat(self, name: str, *, within: float) -> None:
        """Record that the loop `name` is alive and will report again within `within` seconds."""
        self._due[name] = self._clock.monotonic() + within

    def stop(self, name: str) -> None:
        """Stop watching the loop `name`, because it ended."""
        self._due.pop(name, None)

    def overdue(self) -> list[str]:
        """Return the loops that are late, each with the seconds by which it is."""
        now = self._clock.monotonic()
        return [f"{name} is {now - due:.0f} s late" for name, due in self._due.items() if due < now]


@asynccontextmanager
async def serve(
    port: int, *, watchdog: Watchdog, unready: Callable[[], list[str]]
) -> AsyncIterator[None]:
    """Answer probes while the context is open. `unready` returns what keeps it from being ready.

    Raises:
        OperatorError: the port cannot be opened.
    """

    async def healthz(_: web.Request) -> web.Response:
        return _answer(watchdog.overdue())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(unready())

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    async with open_port(app, port, path="/healthz", fix=_FIX) as opened:
        log.info("serving /healthz and /readyz on port %s", opened)
        yield


def _answer(problems: list[str]) -> web.Response:
    response = web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)
    response.force_close()  # an open connection would delay the end of the process
    return response
