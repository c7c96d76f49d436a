"""Looks up pools, deployments and flows by the names that people use, and suggests similar names.

It only reads, and returns the server's own JSON, from which a Job can be rendered.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import quote
from uuid import UUID

from workpool_operator.errors import OperatorError, PrefectNotFound
from workpool_operator.prefect_api.client import PAGE_SIZE, PrefectApi
from workpool_operator.suggestions import close_matches

Object = dict[str, Any]
_SHOWN = 5


class NotFound(OperatorError):
    """The server has no object of that name; the text suggests similar names."""


async def pool(api: PrefectApi, name: str) -> Object:
    """Return the work pool of that name.

    Raises:
        NotFound: the server has none.
    """
    with suppress(PrefectNotFound):
        found: Object = await api.request("GET", f"/work_pools/{quote(name, safe='')}")
        return found
    known = [each["name"] for each in await _page(api, "work_pools")]
    raise NotFound(f"{api.server.url} has no work pool {name!r}.{_hint(name, known)}")


async def deployment(api: PrefectApi, name: str) -> Object:
    """Return the deployment of that id, or of that name in the form `flow/deployment`.

    Raises:
        NotFound: the server has none.
    """
    chosen: Object = {"deployments": {"id": {"any_": [name]}}}
    if not _is_id(name):
        flow, _, rest = name.partition("/")
        chosen = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [rest]}}}
    if found := await _page(api, "deployments", **chosen):
        return found[0]
    known = await _deployment_names(api)
    raise NotFound(f"{api.server.url} has no deployment {name!r}.{_hint(name, known)}")


async def flow(api: PrefectApi, flow_id: str) -> Object:
    """Return the flow of that id."""
    found: Object = await api.request("GET", f"/flows/{flow_id}")
    return found


async def _deployment_names(api: PrefectApi) -> list[str]:
    deployments = await _page(api, "deployments")
    ids = {UUID(each["flow_id"]) for each in deployments}
    flows = {str(key): each["name"] for key, each in (await api.flows(ids)).items()}
    return [f"{flows.get(each['flow_id'], '?')}/{each['name']}" for each in deployments]


async def _page(api: PrefectApi, kind: str, **filters: Any) -> list[Object]:
    body = {"limit": PAGE_SIZE, **filters}
    found: list[Object] = await api.request("POST", f"/{kind}/filter", body)
    return found


def _hint(name: str, known: list[str]) -> str:
    if found := close_matches(name, known):
        return f" Did you mean {' or '.join(map(repr, found))}?"
    if not known:
        return " It has none."
    more = " and others" if len(known) > _SHOWN else ""
    return f" It has {', '.join(repr(each) for each in sorted(known)[:_SHOWN])}{more}."


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
