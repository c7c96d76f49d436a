"""Serves /metrics on a port of its own, with TLS and a bearer token if the settings say so.

Certificate and token are read again when their files change, as they do when a Secret is rotated.
"""

from __future__ import annotations

import hmac
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from workpool_operator.errors import OperatorError
from workpool_operator.http_port import open_port

log = logging.getLogger(__name__)

#: Returns the body and its content type, for a request's Accept header.
Render = Callable[[str], Awaitable[tuple[bytes, str]]]

_FIX = "Choose another with WORKPOOL_OPERATOR_METRICS_PORT."
_CHALLENGE = 'Bearer realm="metrics"'


class Certificate:
    """The certificate tls.crt with the key tls.key in a folder, as a Secret of type
    kubernetes.io/tls is mounted."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            OperatorError: the files cannot be used.
        """
        self._folder = folder
        self._loaded: float = 0.0
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # At each handshake: a client that does not trust the certificate sends no request.
        self.context.sni_callback = lambda *_: self.reload()
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            raise OperatorError(
                f"WORKPOOL_OPERATOR_METRICS_TLS_DIR={str(folder)!r}: tls.crt and tls.key cannot "
                f"be used: {error}"
            ) from error

    def reload(self) -> None:
        """Load the files again if they changed; the next connection uses them."""
        try:
            if (self._folder / "tls.crt").stat().st_mtime != self._loaded:
                self._load()
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate of /metrics is not renewed: %s", error)

    def _load(self) -> None:
        certificate, key = self._folder / "tls.crt", self._folder / "tls.key"
        changed_at = certificate.stat().st_mtime
        self.context.load_cert_chain(certificate, key)
        self._loaded = changed_at


class Token:
    """The bearer token that a scrape must carry, in a file."""

    def __init__(self, file: Path) -> None:
        """
        Raises:
            OperatorError: the file cannot be read, or is empty.
        """
        self._file = file
        if problem := self._read()[1]:
            raise OperatorError(f"WORKPOOL_OPERATOR_METRICS_TOKEN_FILE={str(file)!r}: {problem}")

    def refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a request without the token, None if it has it."""
        token, problem = self._read()
        if problem:
            log.warning("/metrics refuses every scrape: %s: %s", self._file, problem)
            return web.Response(status=503, text=f"the token cannot be checked: {problem}\n")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return _unauthorized("a bearer token is required: set `authorization` of the scrape")
        if not hmac.compare_digest(given.strip().encode(), token):
            return _unauthorized("the token is not the right one", ', error="invalid_token"')
        return None

    def _read(self) -> tuple[bytes, str]:
        """Return the token, and why there is none."""
        try:
            token = self._file.read_bytes().strip()
        except OSError as error:
            return b"", error.strerror or str(error)
        return token, "" if token else "the file is empty"


def _unauthorized(text: str, details: str = "") -> web.Response:
    headers = {"WWW-Authenticate": _CHALLENGE + details}
    return web.Response(status=401, text=f"{text}\n", headers=headers)


@asynccontextmanager
async def serve(
    port: int, *, render: Render, tls_dir: str = "", token_file: str = ""
) -> AsyncIterator[int]:
    """Answer scrapes while the context is open; the context is the port.

    Raises:
        OperatorError: the port cannot be opened, or the certificate or token cannot be used.
    """
    certificate = Certificate(Path(tls_dir)) if tls_dir else None
    token = Token(Path(token_file)) if token_file else None

    async def metrics(request: web.Request) -> web.Response:
        if token and (refusal := token.refusal(request)):
            return refusal
        body, kind = await render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    tls = certificate.context if certificate else None
    async with open_port(app, port, path="/metrics", fix=_FIX, tls=tls) as opened:
        secured = " with TLS" if tls else ""
        log.info("serving /metrics on port %s%s", opened, secured)
        yield opened
