"""What our renderer makes of a case."""

from __future__ import annotations

from prefect.client.orchestration import PrefectClient

from tests.corpus.case import IDENTITY, Case, Object
from workpool_operator.jobs.render import render_manifest


async def job(case: Case) -> Object:
    """The manifest; blocks and variables have no server here."""
    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:
        return await render_manifest(case.subject, IDENTITY, client=nowhere)


def container(manifest: Object) -> Object:
    """The flow's."""
    found: Object = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def variables(manifest: Object) -> Object:
    """The container's environment by name: values, or where they come from."""
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(manifest)["env"]}


def names(manifest: Object) -> list[str]:
    return [entry["name"] for entry in container(manifest)["env"]]
