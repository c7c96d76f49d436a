"""Explains why a connection failed, without quoting a header, a body or a value. Pure.

The messages of httpx, h11, aiohttp and websockets quote what was sent and received: one of them
contains an API key that has a line break. So none of them is used. The explanation is built from
the exception's type, its error number, its status code and OpenSSL's reason.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
_ERRNO = re.compile(r"\[Errno (-?\d+)\]")
_STATUS = re.compile(r"\d{3}\b")


def explain(error: BaseException) -> str:
    """Return why the connection failed, from `error` or its causes, as a part of a sentence."""
    chain = list(_chain(error))
    for describe in (_tls_error, _name, _status, _errno, _timeout, _websocket_close):
        for each in chain:
            if text := describe(each):
                return text
    return f"the connection failed ({type(error).__name__})"


def is_untrusted(error: BaseException) -> bool:
    """Return whether the server's certificate was not accepted."""
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(error))


def repair_untrusted(error: BaseException, *, url: str, trust: str) -> str:
    """Return what to do about a certificate that the server of this URL showed and that was not
    accepted; `trust` is how to name a CA."""
    text = str(error)
    if "expired" in text:
        return (
            "Renew it: the certificate of the server, of a proxy in front of it, or of the CA that "
            f"signed it. Which one, says: {show_certificates(url)}"
        )
    if "not yet valid" in text:
        return "Correct the clock of this machine, or the certificate."
    if "not valid for" in text:
        return "Use an address that the certificate names, or add this one to the certificate."
    return f"If a private CA signed it, {trust}."


def show_certificates(url: str) -> str:
    """Return the command that shows subject, issuer and end of the certificates of a server."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"openssl s_client -connect {address} </dev/null"


def is_disconnected(error: BaseException) -> bool:
    """Return whether the server closed the connection without an answer."""
    names = ("ServerDisconnectedError", "ConnectionResetError")
    return any(type(each).__name__ in names for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its causes and their causes, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = [each.__cause__, each.__context__, getattr(each, "os_error", None)]
        waiting += [other for other in inner if isinstance(other, BaseException)]
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()


def _tls_error(error: BaseException) -> str:
    # aiohttp's own exception is of this type, too, and has no message: its cause has it.
    if message := getattr(error, "verify_message", ""):
        return f"the certificate is not trusted: {message.rstrip('.')}"
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    if reason in _NO_TLS:
        return "the server does not speak TLS"
    return f"TLS failed: {reason.lower().replace('_', ' ')}" if reason else ""


def _name(error: BaseException) -> str:
    return "the host name cannot be resolved" if isinstance(error, socket.gaierror) else ""


def _status(error: BaseException) -> str:
    """Return the HTTP status with which a server refused a websocket, or a proxy a request."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    if type(error).__name__ == "ClientHttpProxyError":
        code = getattr(error, "status", None)
    if code is None and type(error).__name__ == "ProxyError":
        found = _STATUS.match(str(error))
        code = found[0] if found else None
    if code is None:
        return ""
    return f"the proxy answered {code}" if "Proxy" in type(error).__name__ else f"HTTP {code}"


def _errno(error: BaseException) -> str:
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
        return ""
    number = error.errno
    if number is None and (found := _ERRNO.search(str(error))):  # several addresses were tried
        number = int(found[1])
    return os.strerror(number).lower() if number else ""


def _timeout(error: BaseException) -> str:
    is_timeout = isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
    return "timed out" if is_timeout else ""


def _websocket_close(error: BaseException) -> str:
    """Return the code with which a websocket was closed (RFC 6455, 7.4)."""
    code = getattr(getattr(error, "rcvd", None), "code", None)
    return f"the connection was closed ({code})" if code else ""
