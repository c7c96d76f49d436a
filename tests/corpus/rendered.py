"""Renders a case with our renderer."""

from __future__ import annotations

from prefect.client.orchestration import PrefectClient

from tests.corpus.case import IDENTITY, Case, Object
from workpool_operator.jobs.render import render_manifest


async def job(case: Case) -> Object:
    """Render the manifest; there is no server for blocks and variables."""
    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:
        return await render_manifest(case.subject, IDENTITY, client=nowhere)


def container(manifest: Object) -> Object:
    """Return the flow's container."""
    found: Object = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def variables(manifest: Object) -> Object:
    """Return the container's environment by name: a value or its `valueFrom`."""
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(manifest)["env"]}


def names(manifest: Object) -> list[str]:
    return [entry["name"] for entry in container(manifest)["env"]]
