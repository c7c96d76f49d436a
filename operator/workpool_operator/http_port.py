"""Serves an application on a port of its own while a context is open."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from workpool_operator.errors import OperatorError


@asynccontextmanager
async def open_port(
    app: web.Application, port: int, *, path: str, fix: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve `app` on every interface; the context is the port, also if `port` is 0.

    Raises:
        OperatorError: the port cannot be opened. It names the `path` that is not served and the
            `fix`.
    """
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, port=port, ssl_context=tls).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise OperatorError(f"port {port} cannot serve {path}: {reason}. {fix}") from error
        # With port 0, IPv6 has a port of its own; an IPv4 address has fewer parts.
        yield min(runner.addresses, key=len)[1]
    finally:
        await runner.cleanup()
