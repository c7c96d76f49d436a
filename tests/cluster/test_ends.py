"""How a run can end: the flow's own report is kept, and what it could not report is explained."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support import times
from tests.support.binding import Binding
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.object_history import ObjectHistory
from tests.support.operator import Operator
from tests.support.pods import template
from tests.support.polling import poll
from tests.support.prefect import PrefectApi, stock_template

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]
RUN_LABEL = "workpool-operator.dev/flow-run-id"


async def only(kube: Kube, plural: str, namespace: str, run: Object) -> Object:
    (found,) = await kube.list(plural, namespace, selector=f"{RUN_LABEL}={run['id']}")
    return found


# Ends that the flow's own process reports


async def test_a_flow_that_raises_ends_failed_with_its_own_message_and_its_job_is_kept(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve(jobs={"serverURL": api.url, "ttlSecondsAfterFailed": 77})
    run = await launch("raise_error")
    run = await api.wait_for_state(run["id"], "FAILED")
    assert "no such table" in run["state"]["message"]
    job = await ttl_of_its_job(kube, namespace, run)
    assert job["spec"]["ttlSecondsAfterFinished"] == 77
    assert (await api.read_run(run["id"]))["state"] == run["state"]


async def ttl_of_its_job(kube: Kube, namespace: str, run: Object) -> Object:
    """Wait until the run's Job has its TTL, and return the Job."""

    async def job() -> Object:
        return await only(kube, "jobs", namespace, run)

    return await poll(job, until=lambda job: "ttlSecondsAfterFinished" in job["spec"])


async def test_a_process_that_exits_ends_crashed_as_its_runner_reports(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve()
    run = await launch("exit_without_report", {"code": 3})
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "status code: 3" in run["state"]["message"]
    await ttl_of_its_job(kube, namespace, run)
    assert (await api.read_run(run["id"]))["state"] == run["state"]


async def test_the_log_of_a_flow_that_ran_out_of_memory_names_the_limit(
    api: PrefectApi, serve: Serve, launch: Launch
) -> None:
    await serve()
    run = await launch("exhaust_memory", memory_limit="400Mi")
    run = await api.wait_for_state(run["id"], "CRASHED")

    async def lines() -> str:
        return "\n".join([str(run["state"]["message"]), *await api.logs(run["id"])])

    await poll(lines, until=lambda text: "OOMKilled" in text and "limit of 400Mi" in text)


# Ends that only the operator can report


@pytest.mark.parametrize(
    ("command", "facts"),
    [
        pytest.param(
            "sh -c 'echo no such table; exit 7'",
            ["'prefect-job'", "exited with code 7", "no such table"],
            id="exit code 7",
        ),
        pytest.param(
            "no-such-command",
            ["StartError", "code 128", "no-such-command", "not found"],
            id="command not found",
        ),
        pytest.param(
            "python -c 'hoard = bytearray(1 << 30)'",
            ["OOMKilled", "limit of 64Mi", "exit code 137", "Raise the limit"],
            id="out of memory",
        ),
    ],
)
async def test_a_container_that_fails_before_prefect_starts_ends_its_run_crashed(
    command: str,
    facts: list[str],
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    serve: Serve,
    launch: Launch,
) -> None:
    await serve()
    run = await launch(command=command, memory_limit="64Mi")
    run = await api.wait_for_state(run["id"], "CRASHED")
    for fact in facts:
        assert fact in run["state"]["message"]
    pod = await only(kube, "pods", namespace, run)
    assert times.since_exit(pod, run) < 10


@pytest.mark.parametrize("fault", ["refused", "silent"])
async def test_a_run_ends_even_if_the_log_of_its_pod_cannot_be_read(
    fault: str,
    api: PrefectApi,
    kube_proxy: FaultProxy,
    tmp_path: Path,
    operator: Callable[..., Awaitable[Operator]],
    binding: Callable[..., Awaitable[Binding]],
    launch: Launch,
) -> None:
    """The API server answers 500 or not at all, as for an unreachable kubelet."""
    log = kube_proxy.on("GET", r"/log$")
    rule = log.answer(500) if fault == "refused" else log.hold()
    await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    await (await binding()).ready()
    run = await launch(command="sh -c 'exit 7'")
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "exited with code 7" in run["state"]["message"]
    assert "Last log lines" not in run["state"]["message"]
    assert rule.fired


async def test_a_container_that_exits_0_without_a_report_ends_its_run_crashed(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve()
    run = await launch(command="true")
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "exited with code 0 without reporting" in run["state"]["message"]
    assert times.since_exit(await only(kube, "pods", namespace, run), run) < 20


async def test_an_eviction_for_disk_is_explained_with_cause_limit_and_advice(
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
    end = await api.wait_for_state(run["id"], "CRASHED")
    message = end["state"]["message"].partition("Last log lines")[0]
    assert "Evicted" in message
    assert "10Mi" in message
    assert "Raise the ephemeral-storage limit" in message
    assert "memory" not in message
    *_, last = await api.pod_events(run["id"], count=3, last="prefect.kubernetes.pod.evicted")
    assert last["resource"]["kubernetes.diagnosis"] == "Evicted"


async def test_a_manifest_that_the_api_server_refuses_ends_its_run_crashed_at_once(
    api: PrefectApi, pool: str, serve: Serve, launch: Launch
) -> None:
    base = stock_template(hostname="{{ hostname }}")
    base["variables"]["properties"]["hostname"] = {"type": "string"}
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": base})
    await serve()
    run = await launch(hostname="not_valid")
    run = await api.wait_for_state(run["id"], "CRASHED")
    message = run["state"]["message"]
    assert 'spec.template.spec.hostname: Invalid value: "not_valid"' in message
    assert "job variable hostname" in message
    assert times.until_state(run) < 5


async def test_an_invalid_quantity_ends_its_run_crashed_at_once(
    api: PrefectApi, serve: Serve, launch: Launch
) -> None:
    await serve()
    run = await launch(memory_limit="much")
    run = await api.wait_for_state(run["id"], "CRASHED")
    message = run["state"]["message"]
    assert "limits.memory: expected a quantity, such as 500m, 2 or 1Gi, got 'much'" in message
    assert "job variable memory_limit" in message
    assert times.until_state(run) < 5


async def test_a_running_flow_whose_job_is_deleted_is_rescheduled(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve()
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        run = await launch("sleep", {"seconds": 5})
        await api.wait_for_state(run["id"], "RUNNING")
        (job,) = jobs.seen
        await kube.delete("jobs", namespace, job["metadata"]["name"])
        await api.wait_for_state(run["id"], "COMPLETED")
        assert len(jobs.seen) == 2
    names = await api.state_names(run["id"])
    assert names[2:] == ["Running", "AwaitingRetry", "Pending", "Running", "Completed"]


async def test_a_deleted_job_whose_flow_reports_nothing_ends_its_run_crashed(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve()
    run = await launch(command="python /flows/report_only.py 60")
    await api.wait_for_state(run["id"], "RUNNING")
    job = await only(kube, "jobs", namespace, run)
    await kube.delete("jobs", namespace, job["metadata"]["name"])
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert f"Job {job['metadata']['name']} vanished" in run["state"]["message"]
