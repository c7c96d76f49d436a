"""A run that has ended leaves nothing in the operator's memory.

`python -m benchmarks memory` measures the same with 20,000 runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.managed_jobs import MANAGED_BY, complete, create_pod
from tests.support.polling import poll
from tests.support.reachable import paths_to
from workpool_operator.app import App
from workpool_operator.settings import Settings

ENDED = 6


@asynccontextmanager
async def serving(app: App, binding) -> AsyncIterator[None]:
    """Serve the binding inside the context."""
    stop = asyncio.Event()
    async with app:
        task = asyncio.create_task(app.run(stop))
        app.binding_changed(await binding.read())
        await binding.ready()
        try:
            yield
        finally:
            stop.set()
            await task


@pytest.fixture
def process(cluster, namespace, monkeypatch) -> App:
    """An operator in the test's own process, with one reconciler: it keeps the last run only."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    return App(Settings(health_port=0, reconcilers=1), namespaces=[namespace])


@pytest.fixture
async def launch(api, suspended_pool):
    """`await launch()`: a run with a Job, for which no controller creates pods."""
    template = suspended_pool["base_job_template"]
    template["job_configuration"]["job_manifest"]["spec"] |= MANAGED_BY
    name = suspended_pool["name"]
    await api.request("PATCH", f"/work_pools/{name}", {"base_job_template": template})
    deployment = await api.create_deployment(flow="hello", name=name, pool=name)

    async def create() -> str:
        run = await api.create_run(deployment["id"])
        await api.wait(run["id"], until=lambda it: bool(it["infrastructure_pid"]))
        return str(run["id"])

    return create


async def test_runs_that_have_ended_leave_nothing_in_the_process(
    api, kube, namespace, process, binding, suspended_pool, launch
):
    served = await binding(workPool={"name": suspended_pool["name"]})
    async with serving(process, served):
        ended = [await launch() for _ in range(ENDED)]
        assert paths_to(ended, process)
        jobs = await kube.list("jobs", namespace)
        for job in jobs:
            await create_pod(kube, job["metadata"], job["spec"]["template"]["spec"])
        for run_id in ended:
            await api.set_state(run_id, "RUNNING", force=True)
            await api.set_state(run_id, "COMPLETED", force=True)
        for job in jobs:
            await complete(kube, job["metadata"])

        async def unreported() -> int:
            found = await kube.list("jobs", namespace)
            return sum("ttlSecondsAfterFinished" not in job["spec"] for job in found)

        await poll(unreported, until=lambda it: it == 0)
        for plural in ("jobs", "pods"):
            await kube.delete_all(plural, namespace)
        await launch()  # the reconciler, the poller and the event stream keep the last run

        async def left() -> list[str]:
            return paths_to(ended, process)

        await poll(left, until=lambda paths: paths == [])
