"""Describes how to reach a Prefect API: its address, credentials, headers and trusted certificates.

No repr has a secret. Every value is checked before it is sent as a header, because the HTTP client
quotes a value that it refuses to send.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
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
class ClientCertificate:
    """A certificate and its private key, both in PEM form."""

    certificate: str = field(repr=False)
    key: str = field(repr=False)

    def load(self, context: ssl.SSLContext) -> None:
        """Make connections of the context identify themselves with it.

        Raises:
            ValueError: it cannot be used; the text says why, without a value.
        """
        with _file_in_memory(f"{self.key}\n{self.certificate}") as file:
            try:
                context.load_cert_chain(file, password="")
            except ssl.SSLError as error:
                if error.reason == "KEY_VALUES_MISMATCH":
                    raise ValueError("is not the key of the certificate") from error
                raise ValueError("is not a certificate and a key in PEM format") from error


@dataclass(frozen=True, slots=True)
class TLSTrust:
    """The trusted certificates: those of `SSL_CERT_FILE` or the system, Mozilla's list, and
    `ca_bundle` (see `certificates`); every certificate if `verify` is False. `client_certificate`
    is what the server can trust."""

    ca_bundle: str | None = None
    verify: bool = True
    client_certificate: ClientCertificate | None = None

    def context(self) -> ssl.SSLContext:
        """Return the TLS context, which equal values share."""
        return _context(self, strict=tls_strict())


@dataclass(frozen=True, slots=True)
class PrefectEndpoint:
    """The address and credentials of a Prefect API.

    `headers` are sent in addition to the credentials, with every request and to the event stream.
    `setting` is the field or variable that names the address, for messages.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    auth_string: str | None = field(default=None, repr=False)
    headers: Headers = field(default=(), repr=False)
    trust: TLSTrust = field(default=TLSTrust(), repr=False)
    setting: str = field(default="spec.server.url", repr=False, compare=False)

    @property
    def address(self) -> str:
        """The URL without user and password, for messages."""
        return _USER.sub("", self.url)

    @property
    def without_credentials(self) -> bool:
        """Whether neither an API key nor an auth string is set."""
        return self.api_key is None and self.auth_string is None

    def redacted(self, text: str) -> str:
        """Return the text with every credential replaced by `***`: an answer can contain one."""
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
    """Return why the value cannot be sent in a header, without the value; "" if it can."""
    if not value:
        return "is empty"
    if "\n" in value or "\r" in value:
        return "has more than one line"
    if not (value.isascii() and value.isprintable()):
        return "has characters that are not printable ASCII"
    return ""


def header_name_problem(name: str, *, authorized: bool) -> str:
    """Return why no header of that name can be added, "" if it can; `authorized` if credentials
    already set an Authorization header."""
    if not _TOKEN.fullmatch(name):
        return "is not a valid HTTP header name"
    if _RESERVED.fullmatch(name):
        return "is set by the HTTP client itself"
    if authorized and name.lower() == "authorization":
        return "is set from the API key or auth string: keep one of the two"
    return ""


def certificates(text: str) -> str:
    """Return the certificates of a PEM file, without its comments and private keys.

    Raises:
        ValueError: the file has no certificate, or one that cannot be read.
    """
    found = "\n".join(_CERTIFICATE.findall(text))
    if not found:
        raise ValueError("has no certificate in PEM format")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError("has a certificate that cannot be read") from error
    return found + "\n"


@contextmanager
def _file_in_memory(text: str) -> Iterator[str]:
    """Yield the path of a file that is never on a disk: OpenSSL reads certificates only from
    files, and the operator has no place to write one."""
    with open(os.memfd_create("client-certificate"), "w") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


@lru_cache(maxsize=64)
def _context(trust: TLSTrust, *, strict: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if trust.ca_bundle is not None:
        context.load_verify_locations(cadata=trust.ca_bundle)
    if not strict:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if trust.client_certificate is not None:
        trust.client_certificate.load(context)
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
