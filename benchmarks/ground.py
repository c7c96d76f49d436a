"""One side's part of the site: a namespace, a pool and a deployment of its own.

Promises: both sides find the same template and the same deployment; the namespace is gone
afterwards, the pool goes with its server.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.site import Site
from tests.support.kube import Object

NAMESPACE_SECONDS = 120
#: A pod that starts and ends without Prefect: its import would load the machine for seconds.
COMMAND = "sleep 2"


@dataclass(frozen=True, slots=True)
class Ground:
    site: Site
    namespace: str
    pool: str
    deployment: Object


@asynccontextmanager
async def prepared(site: Site) -> AsyncIterator[Ground]:
    """A pool with the stock template, a deployment, and a namespace until the context ends."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    await site.kube.create("namespaces", "", {"metadata": {"name": name}})
    try:
        await site.api.create_pool(name)
        yield Ground(site, name, name, await _deploy(site, name))
    finally:
        await site.kube.delete("namespaces", "", name)
    await site.kube.wait(
        "namespaces", "", name, until=lambda it: it is None, seconds=NAMESPACE_SECONDS
    )


async def _deploy(site: Site, name: str) -> Object:
    variables = {
        "image": site.image,
        "image_pull_policy": "IfNotPresent",
        "namespace": name,
        "command": COMMAND,
    }
    return await site.api.create_deployment(
        flow="bench", name=name, pool=name, job_variables=variables
    )
