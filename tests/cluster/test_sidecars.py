"""Sidecars: the flow's container decides the run's end, whatever its sidecars do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from testbed.clusters import Cluster
from tests.support import times
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.pods import end_of, shell, template
from tests.support.polling import poll
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]
RUN_LABEL = "workpool-operator.dev/flow-run-id"
TTL, FAILED_TTL = 3000, 7000
LIVES_ON = "echo it listens; exec sleep 3600"
STOPS_SLOWLY = "trap 'sleep 2; exit 143' TERM; while :; do sleep 1; done"


async def pod_of(kube: Kube, namespace: str, run: Object) -> Object:
    (found,) = await kube.list("pods", namespace, selector=f"{RUN_LABEL}={run['id']}")
    return found


async def test_the_flow_container_decides_the_end_and_its_pod_is_terminated_and_kept(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    pool: str,
    run_image: str,
    injected: None,
    cluster: Cluster,
    serve: Serve,
    launch: Launch,
) -> None:
    proxy = shell("proxy", run_image, STOPS_SLOWLY, restartPolicy="Always")
    agent = shell("agent", run_image, LIVES_ON)
    made = template(first=[agent], init=[proxy])
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": made})
    ttls = {"ttlSecondsAfterFinished": TTL, "ttlSecondsAfterFailed": FAILED_TTL}
    await serve(concurrencyLimit=3, jobs={"serverURL": api.url, **ttls})
    ends: dict[str, tuple[str, list[str]]] = {
        "sh -c 'echo no such table; exit 7'": (
            "CRASHED",
            ["Container 'prefect-job' exited with code 7", "no such table"],
        ),
        "python -c 'hoard = bytearray(1 << 30)'": (
            "CRASHED",
            ["Container 'prefect-job' was killed", "limit of 64Mi", "OOMKilled"],
        ),
        "python /flows/report_only.py": ("COMPLETED", []),
    }
    runs = [await launch(command=command, memory_limit="64Mi") for command in ends]
    behind = await launch(command="true")
    await asyncio.gather(
        *(
            ended(api, kube, namespace, run, *end)
            for run, end in zip(runs, ends.values(), strict=True)
        )
    )
    for run, (end, _) in zip(runs, ends.values(), strict=True):
        job, pod = await kept(kube, namespace, run)
        # Each Job is Failed, because its agent was stopped.
        assert job["spec"]["ttlSecondsAfterFinished"] == (TTL if end == "COMPLETED" else FAILED_TTL)
        assert "it listens" in cluster.kubectl.run(
            "logs", pod["metadata"]["name"], "--container=agent", f"--namespace={namespace}"
        )
        assert (await api.read_run(run["id"]))["state_type"] in ("CRASHED", "COMPLETED")
        how = "succeeded" if end == "COMPLETED" else "evicted"
        await api.pod_events(run["id"], count=3, last=f"prefect.kubernetes.pod.{how}")
    await api.wait_for_state(behind["id"], "CRASHED")


async def ended(
    api: PrefectApi, kube: Kube, namespace: str, run: Object, type_: str, facts: list[str]
) -> None:
    run = await api.wait_for_state(run["id"], type_)
    for fact in facts:
        assert fact in run["state"]["message"]
    if type_ == "CRASHED":
        pod = await pod_of(kube, namespace, run)
        assert [c["name"] for c in pod["spec"]["containers"]] == ["mesh", "agent", "prefect-job"]
        assert times.seconds(end_of(pod)["finishedAt"], run["state"]["timestamp"]) < 15


async def kept(kube: Kube, namespace: str, run: Object) -> tuple[Object, Object]:
    """Return the run's Job and pod once the pod has ended and the Job has a TTL."""

    async def read() -> Object:
        (found,) = await kube.list("jobs", namespace, selector=f"{RUN_LABEL}={run['id']}")
        return found

    job = await poll(read, until=lambda job: "ttlSecondsAfterFinished" in job["spec"], seconds=90)
    pod = await pod_of(kube, namespace, run)
    assert pod["status"]["phase"] == "Failed"
    return job, pod


async def test_a_run_has_limited_time_to_finish_its_work_after_it_reported_its_end(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve(jobs={"serverURL": api.url, "finishedGraceSeconds": 35})
    uploads = await launch(command="sh -c 'python /flows/report_only.py; sleep 32; echo uploaded'")
    hangs = await launch(command="sh -c 'python /flows/report_only.py; sleep 300'")
    for run in (uploads, hangs):
        await api.wait_for_state(run["id"], "COMPLETED")

    async def lines() -> str:
        return "\n".join(await api.logs(hangs["id"]))

    await poll(lines, until=lambda text: "still running 35 s after" in text, seconds=60)
    pod = await pod_of(kube, namespace, uploads)
    assert end_of(pod)["exitCode"] == 0
    for run in (uploads, hangs):
        assert (await api.read_run(run["id"]))["state_type"] == "COMPLETED"
