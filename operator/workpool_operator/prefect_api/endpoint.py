"""A Prefect API as a client of it needs it: its address, what opens it, and whom it trusts.

Promises: no secret is in a repr; every value that is sent as a header is checked before (`fault`),
because what cannot be sent would be quoted by the one who refuses to.
"""

from __future__ import annotations

import base64
import re
import ssl
from dataclasses import dataclass, field
from functools import lru_cache

import certifi

from workpool_operator.settings import tls_strict

Headers = tuple[tuple[str, str], ...]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----")
_USER = re.compile(r"(?<=://)[^/@]*@")
_RESERVED = re.compile(
    r"host|connection|upgrade|keep-alive|te|trailer|transfer-encoding|content-.*|accept.*"
    r"|user-agent|proxy-.*|sec-websocket-.*|prefect-csrf-.*|x-prefect-api-version",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TLSTrust:
    """Which certificates are accepted: those of `SSL_CERT_FILE` or the system, with Mozilla's list
    and `ca_bundle` (`certificates` of a PEM file) beside them; any where `verify` is false."""

    ca_bundle: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """One for all who trust the same."""
        return _context(self, strict=tls_strict())


@dataclass(frozen=True, slots=True)
class PrefectEndpoint:
    """`headers` are sent beside the credentials, with every request and to the event stream."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    auth_string: str | None = field(default=None, repr=False)
    headers: Headers = field(default=(), repr=False)
    trust: TLSTrust = field(default=TLSTrust(), repr=False)

    @property
    def address(self) -> str:
        """`url` as it may be shown: without user and password."""
        return _USER.sub("", self.url)

    @property
    def without_credentials(self) -> bool:
        """Whether neither an API key nor an auth string is set."""
        return self.api_key is None and self.auth_string is None

    def redacted(self, text: str) -> str:
        """The text without what opens the server, should somebody have answered with it."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> set[str]:
        secrets = {self.api_key, self.auth_string, *(value for _, value in self.headers)}
        if self.auth_string:
            secrets |= {self.auth_string.partition(":")[2]}
            secrets |= {base64.b64encode(self.auth_string.encode()).decode()}
        return {secret for secret in secrets if secret and len(secret) > 3}


def header_value_problem(value: str) -> str:
    """Why the value cannot be sent in a header, without the value; empty where it can."""
    if not value:
        return "is empty"
    if "\n" in value or "\r" in value:
        return "holds more than one line"
    if not (value.isascii() and value.isprintable()):
        return "holds characters that are not printable ASCII"
    return ""


def header_name_problem(name: str, *, authorized: bool) -> str:
    """Why no header of that name can be added; `authorized`: an Authorization is sent already."""
    if not _TOKEN.fullmatch(name):
        return "is not the name of an HTTP header"
    if _RESERVED.fullmatch(name):
        return "is set by the HTTP client itself"
    if authorized and name.lower() == "authorization":
        return "is made from the API key or auth string: keep one of the two"
    return ""


def certificates(text: str) -> str:
    """The certificates of a PEM file: no comment, and no private key that stands beside them.

    Raises:
        ValueError: there is none, or one cannot be read.
    """
    found = "\n".join(_CERTIFICATE.findall(text))
    if not found:
        raise ValueError("holds no certificate in PEM form")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError("holds a certificate that cannot be read") from error
    return found + "\n"


@lru_cache(maxsize=64)
def _context(trust: TLSTrust, *, strict: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if trust.ca_bundle is not None:
        context.load_verify_locations(cadata=trust.ca_bundle)
    if not strict:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
