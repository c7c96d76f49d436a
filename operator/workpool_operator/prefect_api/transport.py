"""Sends requests to one Prefect API over a pool of connections, with the endpoint's credentials.

Every write is sent exactly once. Prefect's own client sends a request again if its answer was lost,
for up to 65 s, and waits for `Retry-After` within the call; a claim that is sent again so late can
run a finished run again (docs/races.md, 1, 2). Here the caller decides about retries. Two requests
that had no effect are sent again: one with an outdated CSRF token, and a read whose kept connection
the server had just closed.

A call takes a tenth of the CPU time of one with Prefect's client (docs/decisions/0044), which
`ClientTransport` makes send over this pool, too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Self
from uuid import uuid4

import aiohttp
import httpx
import prefect
from prefect.client.constants import SERVER_API_VERSION
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as model
from yarl import URL

from workpool_operator import connection_errors
from workpool_operator.clock import ServerClock
from workpool_operator.errors import (
    PrefectConflict,
    PrefectDisconnected,
    PrefectForbidden,
    PrefectNotFound,
    PrefectRedirects,
    PrefectRefused,
    PrefectThrottled,
    PrefectUnauthorized,
    PrefectUnavailable,
    PrefectUntrusted,
)
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.proxies import proxy_of
from workpool_operator.request_observer import NO_ANSWER, RequestObserver, ignore

REQUEST_TIMEOUT_SECONDS = 15.0
MOST_CONNECTIONS = 16
# The server closes connections that were idle for 5 s. A request on a connection that is just being
# closed is lost, and a write is not sent again.
KEPT_SECONDS = 3.0
RETRIED_BY_PREFECTS_CLIENT = frozenset({408, 429, 502, 503})
NOT_PREFECT = "this is not the answer of a Prefect API"
UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError, ValidationError, RecursionError)
_REFUSALS = {
    401: PrefectUnauthorized,
    403: PrefectForbidden,
    404: PrefectNotFound,
    409: PrefectConflict,
}
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@model(frozen=True, slots=True)
class CSRFToken:
    """A token that every change must carry, if the server requires one; empty if it does not."""

    token: str
    expiration: datetime | None = None


_NO_TOKEN = CSRFToken("")
_csrf_token = TypeAdapter(CSRFToken)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered to one request."""

    method: str
    url: URL
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def request(self) -> str:
        """Method and path of the request, without host and query: a URL can contain a password."""
        return f"{self.method} {self.url.path}"


class Transport:
    """Sends requests to the server; use it as an async context manager. Each answer shows the
    server's time to `clock`, and each request is reported to `requested`."""

    def __init__(
        self, server: PrefectEndpoint, *, clock: ServerClock, requested: RequestObserver = ignore
    ) -> None:
        """
        Raises:
            OperatorError: the environment names a proxy that cannot be used.
        """
        self._server = server
        self._proxy = proxy_of(server.url)
        self._clock = clock
        self._requested = requested
        self._client_id = str(uuid4())
        self._token: CSRFToken | None = None

    async def __aenter__(self) -> Self:
        url = URL(self._server.url)
        self._base = str(url.with_user(None)).rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MOST_CONNECTIONS,
                keepalive_timeout=KEPT_SECONDS,
                ssl=self._server.trust.context(),
            ),
            headers=_headers(self._server, url),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request and return the JSON of the answer; None if it is empty.

        Raises:
            PrefectRefused: 4xx except for 408 and 429, or not an answer of Prefect's.
            PrefectThrottled: 429.
            PrefectUnavailable: no answer, 408, 5xx, or a 404 of something else than Prefect.
        """
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        return self._json(await self.send(method, path, data))

    async def send(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send one request and return the answer, whatever its status.

        Raises:
            PrefectRefused: the server requires a CSRF token and refuses one.
            PrefectUnavailable: no answer, or one of those that Prefect's client would retry.
        """
        headers = await self._csrf_headers() if method in _CHANGES else {}
        answer = await self._send(method, path, body, headers)
        if answer.status == 403 and b"CSRF token" in answer.content:  # missing or invalid
            self._token = None
            answer = await self._send(method, path, body, await self._csrf_headers())
        return answer

    async def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        sent_at, status = self._clock.monotonic(), NO_ANSWER
        try:
            url = URL(f"{self._base}{path}", encoded=True)
            async with self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                proxy=self._proxy.url if self._proxy else None,
                allow_redirects=False,
            ) as response:
                content = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = f"{method} {url.path}: {connection_errors.explain(error)}"
            raise _unreachable(error)(text) from error
        except ValueError as error:  # a header or the URL, which its text may quote
            text = f"{method} {path}: the request cannot be sent ({type(error).__name__})"
            raise PrefectRefused(text, status=0) from error
        finally:
            self._requested(method, status, self._clock.monotonic() - sent_at)
        self._clock.observe(response.headers.get("Date"))
        answer = Answer(method, url, response.status, response.headers, content)
        if answer.status in RETRIED_BY_PREFECTS_CLIENT:
            raise _unavailable(answer)
        return answer

    async def _csrf_headers(self) -> dict[str, str]:
        """Return the headers with which the server accepts a change; none for most servers."""
        now = self._clock.now()
        token = self._token
        if token is None or (token.expiration is not None and token.expiration <= now):
            token = self._token = await self._read_token()
        if not token.token:
            return {}
        return {"Prefect-Csrf-Token": token.token, "Prefect-Csrf-Client": self._client_id}

    async def _read_token(self) -> CSRFToken:
        answer = await self._send("GET", f"/csrf-token?client={self._client_id}", None, {})
        if answer.status in (404, 422):  # the server is older than tokens, or does not use them
            return _NO_TOKEN
        try:
            return _csrf_token.validate_python(self._json(answer))
        except ValidationError as error:
            raise PrefectRefused(f"{answer.request}: {NOT_PREFECT}", status=200) from error

    def _json(self, answer: Answer) -> Any:
        if answer.status >= 300:
            raise _error(answer, self._server)
        try:
            return json.loads(answer.content) if answer.content else None
        except UNREADABLE as error:
            kind = answer.headers.get("Content-Type")
            text = f"{answer.request}: {NOT_PREFECT} ({kind} without JSON)"
            raise PrefectRefused(text, status=answer.status) from error


class ClientTransport(httpx.AsyncBaseTransport):
    """Sends the requests of a PrefectClient through a Transport, without the client's own headers:
    they would be those of the user's Prefect settings."""

    def __init__(self, transport: Transport, *, url: str) -> None:
        self._transport = transport
        self._prefix = httpx.URL(url).path.rstrip("/")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request once.

        Raises:
            PrefectUnavailable: where the client would send it again.
        """
        path = request.url.raw_path.decode().removeprefix(self._prefix)
        answer = await self._transport.send(request.method, path, await request.aread() or None)
        kind = answer.headers.get("Content-Type", "application/json")
        return httpx.Response(
            answer.status, content=answer.content, headers={"Content-Type": kind}, request=request
        )


def _unreachable(error: Exception) -> type[PrefectUnavailable]:
    if connection_errors.is_untrusted(error):
        return PrefectUntrusted
    if connection_errors.is_disconnected(error):
        return PrefectDisconnected
    return PrefectUnavailable


def _headers(server: PrefectEndpoint, url: URL) -> dict[str, str]:
    """Return what Prefect's own client sends, and the headers of the server."""
    headers = {
        "User-Agent": f"prefect/{prefect.__version__} (API {SERVER_API_VERSION})",
        "X-Prefect-Api-Version": SERVER_API_VERSION,
        **dict(server.headers),
    }
    if server.auth_string:
        token = base64.b64encode(server.auth_string.encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    elif server.api_key:
        headers["Authorization"] = f"Bearer {server.api_key}"
    if of_url := aiohttp.BasicAuth.from_url(url):
        headers["Authorization"] = of_url.encode()
    return headers


def _error(answer: Answer, server: PrefectEndpoint) -> PrefectRefused | PrefectUnavailable:
    """Return the typed error. It quotes only a Prefect API: another page may repeat the request."""
    text = f"{answer.request}: HTTP {answer.status}"
    if answer.status < 400 and "Location" in answer.headers:
        return _redirect(answer, server, text)
    reason = _prefect_reason(answer.content)
    text = server.redacted(f"{text} {reason or ''}".rstrip())
    if answer.status >= 500 or (answer.status == 404 and reason is None):
        return PrefectUnavailable(text)
    kind = _REFUSALS.get(answer.status, PrefectRefused)
    return kind(text, status=answer.status)


def _unavailable(answer: Answer) -> PrefectUnavailable:
    wait = answer.headers.get("Retry-After", "")
    kind = PrefectThrottled if answer.status == HTTPStatus.TOO_MANY_REQUESTS else PrefectUnavailable
    return kind(
        f"{answer.request}: HTTP {answer.status}",
        retry_after=float(wait) if wait.isdecimal() else None,
    )


def _prefect_reason(content: bytes) -> str | None:
    """Return the reason in an answer of a Prefect API; None if something else answered, for example
    an ingress without a route to the server, whose 404 has a page, text or other JSON."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.keys().isdisjoint(("detail", "exception_message")):
        return None
    reason = body.get("detail") or body.get("exception_message")
    if not isinstance(reason, str):
        return ""
    return " ".join(f"{reason} {_invalid_field(body)}".split())[:300]


def _invalid_field(body: Mapping[str, Any]) -> str:
    """Return the first field that the server's validation refuses, and why; "" if it names none."""
    match body.get("exception_detail"):
        case [{"loc": [*path], "msg": str(why)}, *_]:
            return f"{'.'.join(map(str, path))}: {why}"
    return ""


def _redirect(answer: Answer, server: PrefectEndpoint, text: str) -> PrefectRedirects:
    target = answer.url.join(URL(answer.headers["Location"]))
    base = target.with_query(None).with_fragment(None).with_user(None)
    requested = answer.url.path.removeprefix(URL(server.url).path.rstrip("/"))
    is_api = base.path.endswith(requested)
    path = base.path.removesuffix(requested) if is_api else "/"
    to = str(base.with_path(path)).rstrip("/")
    return PrefectRedirects(f"{text}, to {to}", status=answer.status, to=to, is_api=is_api)
