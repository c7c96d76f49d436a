"""Reads the certificate that a server shows, without trusting it, to say what is wrong with it."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from workpool_operator.prefect_api.proxies import proxy_of

SECONDS = 5.0


async def describe(url: str) -> str:
    """Return subject, issuer and end of the certificate, such as `CN=a, issued by CN=b, valid until
    2026-11-27 08:43 UTC`; "" if it cannot be read, or if only a proxy reaches the server. No
    request is sent."""
    parts = urlsplit(url)
    if proxy_of(url) or not parts.hostname:
        return ""
    try:
        pem = await asyncio.to_thread(_read, parts.hostname, parts.port or 443)
    except (OSError, ValueError):
        return ""
    return _facts(pem)


def _read(host: str, port: int) -> str:
    return ssl.get_server_certificate((host, port), timeout=SECONDS)


def _facts(pem: str) -> str:
    from cryptography import x509  # slow to import

    found = x509.load_pem_x509_certificate(pem.encode())
    subject, issuer = found.subject.rfc4514_string(), found.issuer.rfc4514_string()
    until = f"{found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    return f"{subject or 'no subject'}, issued by {issuer}, valid until {until}"
