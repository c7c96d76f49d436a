"""The later pods of a Job are handled like its first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.pods import template
from tests.support.polling import poll
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]
RUN_LABEL = "workpool-operator.dev/flow-run-id"


async def test_the_second_pod_of_a_running_run_is_explained_and_timed_out(
    api: PrefectApi, kube: Kube, namespace: str, pool: str, serve: Serve, launch: Launch
) -> None:
    needed = {"configMapKeyRef": {"name": "needed", "key": "it"}}
    made = template()
    job = made["job_configuration"]["job_manifest"]["spec"]
    job["backoffLimit"] = 1
    job["template"]["spec"]["containers"][0]["env"] = [{"name": "IT", "valueFrom": needed}]
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": made})
    await serve(jobs={"serverURL": api.url, "pendingTimeoutSeconds": 15})
    await kube.create(
        "configmaps", namespace, {"metadata": {"name": "needed"}, "data": {"it": "1"}}
    )
    run = await launch(command="timeout 8 python /flows/report_only.py 60")
    await api.wait_for_state(run["id"], "RUNNING")
    await kube.delete("configmaps", namespace, "needed")
    end = await api.wait_for_state(run["id"], "CRASHED")
    assert (
        "did not start the flow's container within pendingTimeoutSeconds (15 s)"
        in (end["state"]["message"])
    )
    assert 'configmap "needed" not found' in end["state"]["message"]
    reported = [line for line in await lines(api, run) if "does not start" in line]
    assert len(reported) == 1, reported
    assert "CreateContainerConfigError" in reported[0]
    (made,) = await kube.list("jobs", namespace, selector=f"{RUN_LABEL}={run['id']}")
    events = [
        event
        for event in await kube.list("events", namespace)
        if event["involvedObject"]["name"] == made["metadata"]["name"]
        and event["reason"] == "CreateContainerConfigError"
    ]
    assert len(events) == 1


async def lines(api: PrefectApi, run: Object) -> list[str]:
    """Return the run's log once it has the line about its end."""
    return await poll(
        lambda: api.logs(run["id"]),
        until=lambda log: any("within pendingTimeoutSeconds" in line for line in log),
    )
