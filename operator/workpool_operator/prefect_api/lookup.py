"""Looks up runs, pools, deployments and flows by the names that people use, and suggests similar
names.

It only reads, and returns the server's own JSON, from which a Job can be rendered.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import quote
from uuid import UUID

from workpool_operator.errors import OperatorError, PrefectNotFound
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run
from workpool_operator.suggestions import MOST_COMPARED, close_matches

Object = dict[str, Any]
NEWEST_FIRST = "EXPECTED_START_TIME_DESC"
_SHOWN = 5


class NotFound(OperatorError):
    """The server has no object of that name; the text suggests similar names."""


class Ambiguous(OperatorError):
    """Several objects have that name; the text has their ids."""


async def pool(api: PrefectApi, name: str) -> Object:
    """Return the work pool of that name.

    Raises:
        NotFound: the server has none.
    """
    with suppress(PrefectNotFound):
        found: Object = await api.request("GET", f"/work_pools/{quote(name, safe='')}")
        return found
    known = [each["name"] for each in await api.filter("work_pools", most=MOST_COMPARED)]
    raise NotFound(f"{api.server.url} has no work pool {name!r}.{_hint(name, known)}")


async def deployment(api: PrefectApi, name: str) -> Object:
    """Return the deployment of that id, or of that name in the form `flow/deployment`.

    Raises:
        NotFound: the server has none.
    """
    chosen: Object = {"deployments": {"id": {"any_": [name]}}}
    if not is_id(name):
        flow, _, rest = name.partition("/")
        chosen = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [rest]}}}
    found: list[Object] = await api.request("POST", "/deployments/filter", chosen)
    if found:
        return found[0]
    known = await _deployment_names(api)
    raise NotFound(f"{api.server.url} has no deployment {name!r}.{_hint(name, known)}")


async def run(api: PrefectApi, name: str) -> Run:
    """Return the flow run of that name, among the 200 that were due last.

    Raises:
        NotFound: the server has none.
        Ambiguous: the server has several.
    """
    by_name = {"flow_runs": {"name": {"any_": [name]}}, "sort": NEWEST_FIRST}
    found = await api.filter_runs(by_name)
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(f"{each.id} ({each.state_name})" for each in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        text = f"{len(found)} flow runs are named {name!r}: name one by its id: {which}{more}"
        raise Ambiguous(text)
    known = [each.name for each in await api.filter_runs({"sort": NEWEST_FIRST})]
    raise NotFound(f"{api.server.url} has no flow run {name!r}.{_hint(name, known)}")


async def latest_run(api: PrefectApi, deployment_id: str) -> Run | None:
    """Return the deployment's run that was due last; if none was due yet, the next one; None if it
    has no run."""
    chosen = {"deployments": {"id": {"any_": [deployment_id]}}, "limit": 1}
    due = {"expected_start_time": {"before_": api.clock.now().isoformat()}}
    past = await api.filter_runs({**chosen, "flow_runs": due, "sort": NEWEST_FIRST})
    later = past or await api.filter_runs({**chosen, "sort": "EXPECTED_START_TIME_ASC"})
    return later[0] if later else None


async def flow(api: PrefectApi, flow_id: str) -> Object:
    """Return the flow of that id."""
    found: Object = await api.request("GET", f"/flows/{flow_id}")
    return found


async def _deployment_names(api: PrefectApi) -> list[str]:
    deployments = await api.filter("deployments", most=MOST_COMPARED)
    ids = {UUID(each["flow_id"]) for each in deployments}
    flows = {str(key): each["name"] for key, each in (await api.flows(ids)).items()}
    return [f"{flows.get(each['flow_id'], '?')}/{each['name']}" for each in deployments]


def _hint(name: str, known: list[str]) -> str:
    if found := close_matches(name, known):
        return f" Did you mean {' or '.join(map(repr, found))}?"
    if not known:
        return " It has none."
    more = " and others" if len(known) > _SHOWN else ""
    return f" It has {', '.join(repr(each) for each in sorted(known)[:_SHOWN])}{more}."


def is_id(text: str) -> bool:
    """Return whether the text is an id of Prefect's."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
