"""A small Prefect client for tests: plain dicts, one short call each, no retries."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.polling import NotYet, poll

Object = dict[str, Any]
GUARDED_AUTH = "admin:" + "open-sesame-4711"
# A real flow imports for 12 s of CPU time, and shares a slow machine with others.
FLOW_SECONDS = 240
TEMPLATES = "server/api/collections_data/views/aggregate-worker-metadata.json"


class PrefectApi:
    """`await api.read_run(id)`; every error status raises `httpx.HTTPStatusError`."""

    def __init__(self, url: str, *, auth_string: str | None = None) -> None:
        auth = httpx.BasicAuth(*auth_string.split(":", 1)) if auth_string else None
        self.url = url
        # The server closes idle connections after 5 s; they are not used for that long.
        limits = httpx.Limits(keepalive_expiry=3)
        self.http = httpx.AsyncClient(
            base_url=url,
            auth=auth,
            limits=limits,
            trust_env=False,
            timeout=30,
            verify=url.startswith("https:"),  # to load certificates takes 20 ms of CPU time
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def create_pool(self, name: str, *, template: Object | None = None) -> Object:
        """Create a pool of type kubernetes, with the stock template unless another is given."""
        body = {
            "name": name,
            "type": "kubernetes",
            "base_job_template": template or stock_template(),
        }
        return await self.one("POST", "/work_pools/", body)

    async def read_pool(self, name: str) -> Object:
        return await self.one("GET", f"/work_pools/{name}")

    async def delete_pool(self, name: str) -> None:
        """Delete the pool; try again on a 503, which a server with SQLite answers during writes."""
        path = f"/work_pools/{name}"
        response = await poll(
            lambda: self.http.delete(path), until=lambda answer: answer.status_code != 503
        )
        response.raise_for_status()

    async def workers(self, pool: str) -> list[Object]:
        return await self.many("POST", f"/work_pools/{pool}/workers/filter", {})

    async def create_secret_block(self, name: str, value: str) -> str:
        """Create the block; return the reference to it for a template or a job variable."""
        kind = await self.one("GET", "/block_types/slug/secret")
        chosen = {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}}
        schema = (await self.many("POST", "/block_schemas/filter", chosen))[0]
        ids = {"block_type_id": kind["id"], "block_schema_id": schema["id"]}
        block = {"name": name, "data": {"value": value}, **ids}
        await self.one("POST", "/block_documents/", block)
        return "{{ prefect.blocks.secret." + name + " }}"

    async def create_deployment(self, *, flow: str, name: str, pool: str, **fields: Any) -> Object:
        """Create a deployment; `fields` such as job_variables have the names of the API."""
        flow_id = (await self.one("POST", "/flows/", {"name": flow}))["id"]
        body = {"name": name, "flow_id": flow_id, "work_pool_name": pool, **fields}
        return await self.one("POST", "/deployments/", body)

    async def create_run(
        self, deployment_id: str, *, due: datetime | None = None, **fields: Any
    ) -> Object:
        """A SCHEDULED run of the deployment, due now by default."""
        when = (due or datetime.now(UTC)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": when}}
        path = f"/deployments/{deployment_id}/create_flow_run"
        return await self.one("POST", path, {"state": state, **fields})

    async def read_run(self, run_id: str) -> Object:
        return await self.one("GET", f"/flow_runs/{run_id}")

    async def update_run(self, run_id: str, **fields: Any) -> None:
        await self.request("PATCH", f"/flow_runs/{run_id}", fields)

    async def delete_run(self, run_id: str) -> None:
        await self.request("DELETE", f"/flow_runs/{run_id}")

    async def runs(self, *, deployment_id: str, **fields: Any) -> list[Object]:
        chosen = {"deployments": {"id": {"any_": [deployment_id]}}}
        return await self.many("POST", "/flow_runs/filter", {**chosen, **fields})

    async def set_state(
        self, run_id: str, type: str, *, force: bool = False, **state: Any
    ) -> Object:
        """Propose the state; return the server's answer: {"status": "ACCEPT", "state": ...}."""
        body = {"state": {"type": type, **state}, "force": force}
        return await self.one("POST", f"/flow_runs/{run_id}/set_state", body)

    async def cancel(self, run_id: str) -> Object:
        """Cancel the run, as `prefect flow-run cancel` does."""
        return await self.set_state(run_id, "CANCELLING", name="Cancelling")

    async def states(self, run_id: str) -> list[Object]:
        """Return the run's states, oldest first."""
        found = await self.many("GET", f"/flow_run_states/?flow_run_id={run_id}")
        return sorted(found, key=lambda state: str(state["timestamp"]))

    async def state_names(self, run_id: str) -> list[str]:
        return [state["name"] for state in await self.states(run_id)]

    async def logs(self, run_id: str) -> list[str]:
        body = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
        return [log["message"] for log in await self.many("POST", "/logs/filter", body)]

    async def wait_for_state(
        self, run_id: str, *types: str, seconds: float = FLOW_SECONDS
    ) -> Object:
        """Return the run once its state is of one of the types."""
        return await self.wait(
            run_id, until=lambda run: run["state_type"] in types, seconds=seconds
        )

    async def wait(
        self, run_id: str, *, until: Callable[[Object], bool], seconds: float = FLOW_SECONDS
    ) -> Object:
        try:
            return await poll(lambda: self.read_run(run_id), until=until, seconds=seconds)
        except NotYet:
            states = [f"{s['name']}: {s['message']}" for s in await self.states(run_id)]
            history = "\n".join(states)
            raise AssertionError(
                f"flow run {run_id} after {seconds:g} s has only:\n{history}"
            ) from None

    async def pod_events(self, run_id: str, *, count: int, last: str = "") -> list[Object]:
        """Return the events of the run's pods, oldest first, once there are so many and the last
        one reports that phase. A pod that waited has more."""
        body = {
            "filter": {
                "event": {"prefix": ["prefect.kubernetes.pod."]},
                "related": {"id": [f"prefect.flow-run.{run_id}"]},
            },
            "limit": 50,
        }

        async def read() -> list[Object]:
            return _in_order((await self.one("POST", "/events/filter", body))["events"])

        def are_complete(found: list[Object]) -> bool:
            return len(found) >= count and found[-1]["event"].endswith(last)

        return await poll(read, until=are_complete)

    async def one(self, method: str, path: str, body: Any = None) -> Object:
        found: Object = await self.request(method, path, body)
        return found

    async def many(self, method: str, path: str, body: Any = None) -> list[Object]:
        found: list[Object] = await self.request(method, path, body)
        return found

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        response = await self.http.request(method, path, json=body)
        if not response.is_success:
            raise httpx.HTTPStatusError(
                f"{response.status_code} {method} {path}: {response.text}",
                request=response.request,
                response=response,
            )
        return response.json() if response.content else None


def stock_template(**pod: Any) -> Object:
    """Return the template of a new pool of type kubernetes; `pod` adds fields to its pod."""
    template = copy.deepcopy(_stock_template())
    manifest = template["job_configuration"]["job_manifest"]
    manifest["spec"]["template"]["spec"].update(pod)
    return template


def suspended_template() -> Object:
    """Return that template with suspended Jobs, which have no pods."""
    template = stock_template()
    template["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    return template


@cache
def _stock_template() -> Object:
    package = find_spec("prefect")  # an import would take seconds
    assert package is not None
    assert package.origin is not None
    kinds = json.loads((Path(package.origin).parent / TEMPLATES).read_text())["prefect-kubernetes"]
    template: Object = kinds["kubernetes"]["default_base_job_configuration"]
    return template


def _in_order(events: Iterable[Object]) -> list[Object]:
    """Sort events of pods. Times have whole seconds: within one, `follows` has the order."""
    found = {event["id"]: event for event in events}

    def place(event: Object) -> int:
        before = found.get(event["follows"])
        return 1 + place(before) if before else 0

    return sorted(found.values(), key=lambda event: (event["occurred"], place(event)))
