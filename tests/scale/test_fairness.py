"""Bindings of one process do not wait for each other.

`python -m benchmarks fairness` measures the same with thousands of runs.
"""

from __future__ import annotations

from datetime import datetime

from benchmarks.job_watch import watch_jobs
from tests.support.binding import Binding
from tests.support.polling import poll
from tests.support.prefect import GUARDED_AUTH, suspended_template

QUEUED = 40
RUNS = 8
JOB_SECONDS = 2.0  # a tenth of that alone; the next poll would be due after 10 s
AUTH = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "auth"}}
NO_JOBS = {"metadata": {"name": "no-jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}}


async def test_an_idle_binding_serves_its_runs_at_once_next_to_a_queue_a_silent_server_and_a_quota(
    api, auth_api, auth_server, kube, namespace, other_namespace, prefect_server, prefect_proxy,
    operator, crd,
):  # fmt: skip
    pools = {kind: f"{namespace}-{kind}" for kind in ("idle", "busy", "silent", "refused")}
    servers = {kind: {"url": prefect_server.url} for kind in pools}
    key = {"secretKeyRef": {"name": "auth", "key": "auth"}}
    servers["busy"] = {"url": auth_server, "authString": key}
    servers["silent"] = {"url": prefect_proxy.url}
    apis = {kind: auth_api if kind == "busy" else api for kind in pools}
    await kube.create("secrets", namespace, {**AUTH, "stringData": {"auth": GUARDED_AUTH}})
    await kube.create("resourcequotas", other_namespace, NO_JOBS)
    deployments = {}
    for kind, name in pools.items():
        await apis[kind].create_pool(name, template=suspended_template())
        deployments[kind] = await apis[kind].create_deployment(flow="hello", name=name, pool=name)
    bindings = {kind: Binding(kube, namespace, kind) for kind in pools}
    await operator(also_in=other_namespace)
    try:
        for kind, binding in bindings.items():
            jobs = {"namespace": other_namespace} if kind == "refused" else {}
            spec = {"workPool": {"name": pools[kind]}, "server": servers[kind], "jobs": jobs}
            await binding.apply(**spec)
        for binding in bindings.values():
            await binding.ready()
        prefect_proxy.on("*", "").hold()
        for kind in ("silent", "refused", *["busy"] * QUEUED):
            await apis[kind].create_run(deployments[kind]["id"])
        await poll(
            lambda: kube.list("jobs", namespace), until=bool
        )  # the queue is being worked off
        async with watch_jobs(kube, namespace) as created:
            for _ in range(RUNS):
                run = await api.create_run(deployments["idle"]["id"])
                seen = await created.first(run["id"])
                assert seen - datetime.fromisoformat(run["created"]).timestamp() < JOB_SECONDS
    finally:
        for binding in bindings.values():
            await binding.remove()
        for kind, name in pools.items():
            await apis[kind].delete_pool(name)
