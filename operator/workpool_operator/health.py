"""/healthz and /readyz.

Liveness fails only when a loop is stuck: one that promised to come round within some seconds and
did not. An outage of Prefect or Kubernetes is no reason to kill the process; the binding says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError

log = logging.getLogger(__name__)


class Watchdog:
    """Who promised to come round when."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

    def beat(self, name: str, *, within: float) -> None:
        """`name` is alive, and says so again within that many seconds."""
        self._due[name] = self._clock.monotonic() + within

    def stop(self, name: str) -> None:
        """`name` promises nothing any more."""
        self._due.pop(name, None)

    def overdue(self) -> list[str]:
        """Who is overdue, and by how much."""
        now = self._clock.monotonic()
        return [f"{name} is {now - due:.0f} s late" for name, due in self._due.items() if due < now]


@asynccontextmanager
async def serve(
    port: int, *, watchdog: Watchdog, unready: Callable[[], list[str]]
) -> AsyncIterator[None]:
    """Answer probes while the context is open; `unready` names what is not synced yet."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(watchdog.overdue())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(unready())

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await _listen(runner, port)
        log.info("probes on port %s", runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> None:
    try:
        await web.TCPSite(runner, port=port).start()
    except OSError as error:
        fix = "Choose another with --health-port or WORKPOOL_OPERATOR_HEALTH_PORT."
        reason = os.strerror(error.errno) if error.errno else error
        raise OperatorError(f"port {port} cannot serve /healthz: {reason}. {fix}") from error


def _answer(problems: list[str]) -> web.Response:
    response = web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)
    response.force_close()  # a connection kept open would delay the end of the process
    return response
