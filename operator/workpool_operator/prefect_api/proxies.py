"""Chooses the HTTP proxy for a URL from the environment, for REST and websockets alike. Pure.

httpx ignores networks in `NO_PROXY`, and websockets uses the proxy of `https://` for `ws://`. This
module follows the rules of Go programs such as kubectl:

- `http_proxy` or `https_proxy`, by the URL's scheme (`ws` counts as http, `wss` as https), else
  `all_proxy`. Each can be in upper case; the lower case has precedence.
- `no_proxy` is a comma-separated list of hosts (`example.com` with its subdomains), domains (`.svc`
  or `*.svc`, only subdomains), addresses and networks (`10.0.0.0/8`), each with an optional
  `:port`. `*` is every host. Names are not resolved: a network covers only literal addresses.
- `localhost` and loopback addresses are reached directly.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from workpool_operator.errors import OperatorError

_HTTP = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and the variable that sets it. `url` can contain a password; messages show
    `address`."""

    url: str
    variable: str

    def __repr__(self) -> str:
        return f"Proxy({self.address!r})"

    @property
    def address(self) -> str:
        """The address without user and password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


def proxy_of(url: str, environ: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy through which to reach `url`; None to connect directly.

    Raises:
        OperatorError: the environment names an invalid proxy.
        ValueError: `url` is invalid.
    """
    parts = urlsplit(url)
    scheme = _HTTP[parts.scheme]
    named = _named(environ, f"{scheme}_proxy") or _named(environ, "all_proxy")
    if named is None or _is_direct(parts, scheme, environ):
        return None
    variable, value = named
    return _usable(value if "://" in value else f"http://{value}", variable)


def _named(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    if name == "http_proxy" and "REQUEST_METHOD" in environ:  # CGI: a client can set HTTP_PROXY
        return None
    found = ((each, environ.get(each, "").strip()) for each in (name, name.upper()))
    return next(((each, value) for each, value in found if value), None)


def _usable(url: str, variable: str) -> Proxy:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise OperatorError(
            f"{variable}: not a valid proxy: it must be http://HOST:PORT or https://HOST:PORT."
        )
    return Proxy(url, variable)


def _is_direct(parts: SplitResult, scheme: str, environ: Mapping[str, str]) -> bool:
    host, port = (parts.hostname or "").lower().rstrip("."), parts.port or _PORTS[scheme]
    if host == "localhost":
        return True
    address = _address(host)
    if address is not None and address.is_loopback:
        return True
    _, listed = _named(environ, "no_proxy") or ("", "")
    return any(_covers(entry.strip().lower(), host, port, address) for entry in listed.split(","))


def _covers(entry: str, host: str, port: int, address: _Address | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    name, of_port = _split_port(entry)
    if not name or of_port not in (None, port):
        return False
    if address is not None:
        return _address(name) == address
    if name.startswith(("*.", ".")):
        return host.endswith(name.removeprefix("*"))
    return host == name or host.endswith(f".{name}")


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _in_network(address: _Address, text: str) -> bool:
    try:
        return address in ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    name, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and (":" not in name or name.endswith("]")):
        return name, int(port)
    return entry, None
