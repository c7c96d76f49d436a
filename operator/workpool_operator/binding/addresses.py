"""Recognises server addresses that are well formed but probably wrong. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

CLOUD = "prefect.cloud"
CLOUD_API = "https://api.prefect.cloud/api/accounts/{account}/workspaces/{workspace}"
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_WORKSPACE = re.compile(rf"/accounts?/({_UUID})/workspaces?/({_UUID})(?:/|$)")


def is_cloud(url: str) -> bool:
    """Return whether the address is Prefect Cloud's, that of its API or of its UI."""
    host = _host(_split(url))
    return host == CLOUD or host.endswith(f".{CLOUD}")


def address_warnings(url: str) -> Iterator[str]:
    """Yield what is probably wrong with the address and the fix, each as "is ..." or "has ...".

    Does not check that a server answers, nor that Prefect Cloud gets an API key (`is_cloud`).
    """
    parts = _split(url)
    if is_cloud(url):
        yield from _cloud_warnings(parts)
        return
    if is_local(url):
        yield (
            f"points to {_host(parts)}, which is the pod itself: use the name of a Service or "
            "another address that pods can reach"
        )
    if "api" not in parts.path.split("/"):
        yield f"has no /api in its path: a Prefect API is at {_with_api(parts)} by default"


def is_local(url: str) -> bool:
    """Return whether the address means a different machine or pod wherever it is used."""
    host = _host(_split(url))
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _cloud_warnings(parts: SplitResult) -> Iterator[str]:
    found = _WORKSPACE.search(parts.path)
    account, workspace = found.groups() if found else ("ACCOUNT_ID", "WORKSPACE_ID")
    expected = CLOUD_API.format(account=account, workspace=workspace)
    if not (_host(parts).startswith("api.") and parts.path.startswith("/api/")):
        yield f"is the address of Prefect Cloud's UI, not of its API: use {expected}"
    elif found is None:
        yield f"does not name a workspace of Prefect Cloud: use {expected}"
    elif parts.scheme != "https":
        yield f"is http, but Prefect Cloud accepts only https: use {expected}"


def _with_api(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]  # without user and password
    return f"{parts.scheme}://{host}/api"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # such as an IPv6 address without its closing bracket
        return SplitResult("", "", "", "", "")


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").rstrip(".")
