"""The HTTP proxy of an address, by the environment: one answer for REST and for websockets. Pure.

httpx knows no networks in `NO_PROXY`, and websockets sends `ws://` through the proxy of `https://`.
So both are told what to do here, by the rules of Go's programs, kubectl among them:

- `http_proxy` and `https_proxy` by the scheme of the address (`ws` is http, `wss` is https), else
  `all_proxy`; each also in upper case, the lower case wins.
- `no_proxy` is a list with commas of hosts (`example.com`, with all below it), domains (`.svc` or
  `*.svc`, only what is below it), addresses and networks (`10.0.0.0/8`), each also with `:port`.
  `*` is every host. Names are not resolved: a network covers only addresses that are written out.
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
    """`url` may hold a password; what is shown is `address` and the variable that named it."""

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
    """The proxy to reach `url` by; None: directly.

    Raises:
        OperatorError: the environment names one that cannot be used.
        ValueError: `url` is none.
    """
    parts = urlsplit(url)
    scheme = _HTTP[parts.scheme]
    named = _named(environ, f"{scheme}_proxy") or _named(environ, "all_proxy")
    if named is None or _is_direct(parts, scheme, environ):
        return None
    variable, value = named
    return _usable(value if "://" in value else f"http://{value}", variable)


def _named(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    if name == "http_proxy" and "REQUEST_METHOD" in environ:  # CGI: a client could set HTTP_PROXY
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
        text = f"{variable} names no proxy that can be used: it must be http://HOST:PORT or https"
        raise OperatorError(f"{text}://HOST:PORT.")
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
