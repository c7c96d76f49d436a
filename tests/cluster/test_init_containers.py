"""What comes before the flow's container: work is named and waited for, a wait is timed out, and a
failure has its own log. The later pods of a Job are treated as its first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.pods import shell, template
from tests.support.polling import poll
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]
RUN_LABEL = "workpool-operator.dev/flow-run-id"
#: By the run's label `does`: works longer than the time-out, fails, or passes.
FETCH = """case "$DOES" in
works) sleep 30;;
fails) echo no credentials for the bucket; exit 1;;
esac"""


async def test_init_containers_work_fail_and_wait(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    pool: str,
    run_image: str,
    serve: Serve,
    launch: Launch,
) -> None:
    does = [{"name": "DOES", "value": "{{ does }}"}]
    silent = shell(
        "silent",
        run_image,
        "exec sleep 3600",
        restartPolicy="Always",
        startupProbe={
            "exec": {"command": ["test", "{{ does }}", "!=", "waits"]},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
    )
    made = template(init=[shell("fetch", run_image, FETCH, env=does), silent])
    made["variables"]["properties"]["does"] = {"type": "string", "default": "passes"}
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": made})
    await serve(jobs={"serverURL": api.url, "pendingTimeoutSeconds": 25})
    command = "python /flows/reports.py"
    works, fails, waits = [
        await launch(does=what, command=command) for what in ("works", "fails", "waits")
    ]

    async def of_one_that_works() -> None:
        run = await api.wait(works["id"], until=lambda run: run["state_name"] == "Initializing")
        assert "container 'fetch' has been running for" in run["state"]["message"]
        assert "activeDeadlineSeconds" in run["state"]["message"]
        await api.wait_for_state(works["id"], "COMPLETED", seconds=90)

    async def of_one_that_fails() -> None:
        run = await api.wait_for_state(fails["id"], "CRASHED", seconds=60)
        assert "Container 'fetch' exited with code 1" in run["state"]["message"]
        assert "no credentials for the bucket" in run["state"]["message"]

    async def of_one_that_waits() -> None:
        named = "SidecarNotStarted"
        run = await api.wait(waits["id"], until=lambda run: run["state_name"] == named)
        assert "container 'silent' has been running for" in run["state"]["message"]
        run = await api.wait_for_state(waits["id"], "CRASHED", seconds=60)
        assert "pendingTimeoutSeconds (25 s)" in run["state"]["message"]
        assert "SidecarNotStarted: container 'silent'" in run["state"]["message"]

    await asyncio.gather(of_one_that_works(), of_one_that_fails(), of_one_that_waits())


async def test_the_second_pod_of_a_running_run_says_what_it_waits_for_and_gives_up_in_time(
    api: PrefectApi, kube: Kube, namespace: str, pool: str, serve: Serve, launch: Launch
) -> None:
    needed = {"configMapKeyRef": {"name": "needed", "key": "it"}}
    made = template()
    pod = made["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["env"] = [{"name": "IT", "valueFrom": needed}]
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": made})
    await serve(jobs={"serverURL": api.url, "pendingTimeoutSeconds": 15})
    await kube.create(
        "configmaps", namespace, {"metadata": {"name": "needed"}, "data": {"it": "1"}}
    )
    run = await launch(command="timeout 8 python /flows/reports.py 60", backoff_limit=1)
    await api.wait_for_state(run["id"], "RUNNING")
    await kube.delete("configmaps", namespace, "needed")
    end = await api.wait_for_state(run["id"], "CRASHED", seconds=120)
    assert (
        "did not start the flow's container within pendingTimeoutSeconds (15 s)"
        in (end["state"]["message"])
    )
    assert 'configmap "needed" not found' in end["state"]["message"]
    told = [line for line in await lines(api, run) if "does not start" in line]
    assert len(told) == 1, told
    assert "CreateContainerConfigError" in told[0]
    (job,) = await kube.list("jobs", namespace, selector=f"{RUN_LABEL}={run['id']}")
    events = [
        event
        for event in await kube.list("events", namespace)
        if event["involvedObject"]["name"] == job["metadata"]["name"]
        and event["reason"] == "CreateContainerConfigError"
    ]
    assert len(events) == 1


async def lines(api: PrefectApi, run: Object) -> list[str]:
    """The run's log, once the line of its end is there."""
    return await poll(
        lambda: api.logs(run["id"]),
        until=lambda log: any("within pendingTimeoutSeconds" in line for line in log),
    )


async def test_a_pod_that_is_evicted_for_disk_has_that_cause_its_limit_and_advice(
    api: PrefectApi, pool: str, serve: Serve, launch: Launch
) -> None:
    made = template()
    pod = made["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["resources"] = {"limits": {"ephemeral-storage": "10Mi"}}
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": made})
    await serve()
    run = await launch(
        command="sh -c 'dd if=/dev/zero of=/var/tmp/x bs=1M count=50; exec sleep 300'"
    )
    end = await api.wait_for_state(run["id"], "CRASHED", seconds=120)
    message = end["state"]["message"].partition("Last log lines")[0]
    assert "Evicted" in message
    assert "10Mi" in message
    assert "Raise the ephemeral-storage limit" in message
    assert "memory" not in message
