"""The worker type on a real cluster: no CRD, no binding, only `prefect worker start`."""

from __future__ import annotations

import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from testbed.clusters import Cluster
from tests.support.deployments import Deployer
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.object_history import ObjectHistory
from tests.support.pods import shell
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.worker_type import TYPE, WorkerProcess, environment, prefect, with_flows

Work = Callable[..., Awaitable[WorkerProcess]]
Launch = Callable[..., Awaitable[Object]]


@pytest.fixture
async def pool(api: PrefectApi, prefect_server: Endpoint, tmp_path: Path) -> AsyncIterator[str]:
    """Create the pool as a user does, with our default template."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    env = environment(url=prefect_server.url, home=tmp_path / "cli")
    await prefect("work-pool", "create", "--type", TYPE, name, env=env)
    yield name
    await api.delete_pool(name)


@pytest.fixture
def work(pool: str, cluster: Cluster, prefect_server: Endpoint, tmp_path: Path) -> Iterator[Work]:
    """`await work("--limit", "1")`: a worker that has started; `kubeconfig` may be a proxy's."""
    started: list[WorkerProcess] = []

    async def start(
        *options: str,
        url: str = prefect_server.url,
        kubeconfig: Path = cluster.kubeconfig,
        ready: bool = True,
        **env: str,
    ) -> WorkerProcess:
        number = len(started) + 1
        home = tmp_path / f"home-{number}"
        made = environment(url=url, home=home, kubeconfig=kubeconfig, **env)
        process = WorkerProcess.start(pool, *options, log=tmp_path / f"worker-{number}", env=made)
        started.append(process)
        if ready:
            await process.says("started!")
        return process

    yield start
    for process in started:
        process.kill()
        print(process.log)


@pytest.fixture
def launch(api: PrefectApi, deploy: Deployer, namespace: str, prefect_server: Endpoint) -> Launch:
    """`await launch("sleep", {"seconds": 5}, memory_limit="64Mi")`: a run, due now."""

    async def launch(
        flow: str = "hello", parameters: Object | None = None, **job_variables: Any
    ) -> Object:
        deployment = await deploy(flow)
        variables = with_flows(namespace) | job_variables
        variables["env"] = {"PREFECT_API_URL": prefect_server.url}  # a proxy is the worker's alone
        fields: Object = {"parameters": parameters or {}, "job_variables": variables}
        return await api.create_run(deployment["id"], **fields)

    return launch


async def test_a_worker_started_by_prefects_cli_runs_a_flow_to_its_end(
    api: PrefectApi, kube: Kube, namespace: str, work: Work, launch: Launch
) -> None:
    """docs/conformance.md, 8, 16, 51; and one Job, whose TTL begins with the report."""
    await work()
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        run = await launch("hello")
        run = await api.wait_for_state(run["id"], "COMPLETED")
        await jobs.until(lambda seen: "ttlSecondsAfterFinished" in seen[0]["spec"])
        (job,) = jobs.seen
    names = await api.state_names(run["id"])
    assert names[:3] == ["Scheduled", "Pending", "Submitting"]
    assert run["infrastructure_pid"] == f"{namespace}:{job['metadata']['name']}"
    assert run["labels"]["prefect.worker.type"] == TYPE
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600
    events = await api.pod_events(run["id"], count=3)
    assert [event["event"].rpartition(".")[2] for event in events] == [
        "pending",
        "running",
        "succeeded",
    ]
    assert events[0]["related"][-1]["prefect.worker-type"] == TYPE


@pytest.mark.parametrize(
    "answered",
    [
        pytest.param(False, id="between the claim and the Job"),
        pytest.param(True, id="between the Job and its pid"),
    ],
)
async def test_the_next_worker_completes_the_submission_of_a_killed_one(
    answered: bool,
    api: PrefectApi,
    kube: Kube,
    kube_proxy: FaultProxy,
    namespace: str,
    tmp_path: Path,
    work: Work,
    launch: Launch,
) -> None:
    """docs/conformance.md, 21: with the stock worker such a run stays PENDING."""
    first = await work(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    posts = kube_proxy.on("POST", r"/jobs$").once()
    killed = (posts.after() if answered else posts).kill(first.pid)
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        run = await launch(command="python /flows/report_only.py 1")
        await killed.wait(seconds=60)
        assert (await api.read_run(run["id"]))["state_type"] == "PENDING"
        await work()
        await api.wait_for_state(run["id"], "COMPLETED")
        assert len(jobs.seen) == 1
    assert (await api.state_names(run["id"])).count("Pending") == 1


@pytest.mark.extended
async def test_runs_never_overlap_under_a_limit_of_one_even_after_a_kill(
    api: PrefectApi, kube: Kube, namespace: str, work: Work, launch: Launch
) -> None:
    """docs/conformance.md, 4; and a slot is held until the pod's end."""
    first = await work("--limit", "1")
    async with (
        ObjectHistory(kube, "pods", namespace) as pods,
        ObjectHistory(kube, "jobs", namespace) as jobs,
    ):
        runs = [await launch(command="python /flows/report_only.py 8") for _ in range(3)]
        await api.wait(runs[0]["id"], until=lambda run: run["state_type"] != "SCHEDULED")
        await pods.until(bool, seconds=60)
        first.kill()
        await work("--limit", "1")
        for run in runs:
            await api.wait_for_state(run["id"], "COMPLETED")
        ended = await pods.until(lambda seen: all(map(life_of, seen)))
        await jobs.until(lambda seen: all("ttlSecondsAfterFinished" in j["spec"] for j in seen))
    lives = sorted(map(life_of, ended))
    assert len(lives) == 3
    for (_, end), (start, _) in pairwise(lives):
        assert end <= start


def life_of(pod: Object) -> list[str]:
    """Return when the pod was created and when its process ended; empty before that."""
    (container,) = pod["status"].get("containerStatuses") or [{"state": {}}]
    end = container["state"].get("terminated")
    return [pod["metadata"]["creationTimestamp"], end["finishedAt"]] if end else []


@pytest.mark.parametrize(
    ("variables", "code", "facts"),
    [
        pytest.param(
            {"command": "sh -c 'echo no such table; exit 7'"},
            "7",
            ["exited with code 7", "no such table"],
            id="exit code 7",
        ),
        pytest.param(
            {"command": "python -c 'hoard = bytearray(1 << 30)'", "memory_limit": "64Mi"},
            "137",
            ["OOMKilled", "limit of 64Mi"],
            id="out of memory",
            marks=pytest.mark.extended,
        ),
        pytest.param(
            {"image": "no.such/image:1", "image_pull_policy": "Never"},
            "125",
            ["pendingTimeoutSeconds (10 s)", "ImagePullBackOff"],
            id="image that is not there",
            marks=pytest.mark.extended,
        ),
    ],
)
async def test_a_run_ends_with_the_real_exit_code_and_the_reason(
    variables: Object, code: str, facts: list[str], api: PrefectApi, work: Work, launch: Launch
) -> None:
    """docs/conformance.md, 9: the reason that was reported first stays the run's message."""
    await work(WORKPOOL_OPERATOR_WORKER_PENDING_TIMEOUT_SECONDS="10")
    run = await launch(**variables)
    run = await api.wait_for_state(run["id"], "CRASHED")
    for fact in facts:
        assert fact in run["state"]["message"]
    executed = await executed_event(api, run)
    (flow_run,) = [r for r in executed["related"] if r["prefect.resource.role"] == "flow-run"]
    assert executed["follows"], "the event of its submission"
    assert flow_run["prefect.infrastructure.status-code"] == code
    assert flow_run["prefect.infrastructure.identifier"] == run["infrastructure_pid"]
    assert (await api.read_run(run["id"]))["state"] == run["state"]


@pytest.mark.extended
async def test_a_sidecar_that_keeps_running_neither_hides_nor_changes_the_end_of_a_run(
    api: PrefectApi, pool: str, run_image: str, work: Work, launch: Launch
) -> None:
    template = (await api.read_pool(pool))["base_job_template"]
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (flow,) = pod["containers"]
    waits = "trap 'exit 143' TERM; while :; do sleep 1; done"
    agent = {key: flow[key] for key in ("securityContext",) if key in flow}
    pod["containers"] = [shell("agent", run_image, waits, **agent), flow]
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    await work()
    run = await launch(command="sh -c 'echo no such table; exit 7'")
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "Container 'prefect-job' exited with code 7" in run["state"]["message"]
    assert "no such table" in run["state"]["message"]
    executed = await executed_event(api, run)
    (flow_run,) = [r for r in executed["related"] if r["prefect.resource.role"] == "flow-run"]
    assert flow_run["prefect.infrastructure.status-code"] == "7"


async def executed_event(api: PrefectApi, run: Object) -> Object:
    """Return the worker's event about the end of the run's infrastructure."""

    async def events() -> list[Object]:
        wanted = {
            "event": {"name": ["prefect.worker.executed-flow-run"]},
            "related": {"id": [f"prefect.flow-run.{run['id']}"]},
        }
        found = await api.one("POST", "/events/filter", {"filter": wanted})
        events: list[Object] = found["events"]
        return events

    (event,) = await poll(events, until=bool, seconds=60)
    return event


async def test_a_run_that_is_cancelled_while_its_pod_cannot_start_ends_with_its_job(
    api: PrefectApi, kube: Kube, namespace: str, work: Work, launch: Launch
) -> None:
    """docs/conformance.md, 65, 69, without PREFECT_WORKER_ENABLE_CANCELLATION."""
    worker = await work("--limit", "1")
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        stuck = await launch(cpu_request="900")
        await api.wait(stuck["id"], until=lambda run: run["state_name"] == "Unschedulable")
        await api.cancel(stuck["id"])
        stuck = await api.wait_for_state(stuck["id"], "CANCELLED", seconds=20)
        assert "before it started" in stuck["state"]["message"]
        (job,) = jobs.seen
        name = job["metadata"]["name"]
        await kube.wait("jobs", namespace, name, until=lambda job: job is None, seconds=20)
    after = await launch(command="python /flows/report_only.py")
    await api.wait_for_state(after["id"], "COMPLETED")  # its slot is free
    assert worker.daemon.exit_code is None


async def test_a_running_flow_whose_pod_is_stopped_runs_again_in_a_job_of_its_own(
    api: PrefectApi, kube: Kube, namespace: str, work: Work, launch: Launch
) -> None:
    """The pod reschedules its run and exits; the exit code must not crash the run."""
    await work("--limit", "1")
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        run = await launch("sleep", {"seconds": 5})
        await api.wait_for_state(run["id"], "RUNNING")
        (job,) = jobs.seen
        await kube.delete("jobs", namespace, job["metadata"]["name"])
        await api.wait_for_state(run["id"], "COMPLETED")
        assert len(jobs.seen) == 2
    names = await api.state_names(run["id"])
    assert names[3:5] == ["Running", "AwaitingRetry"]
    assert "Crashed" not in names


async def test_two_workers_of_one_pool_create_one_job_per_run(
    api: PrefectApi, kube: Kube, namespace: str, work: Work, launch: Launch
) -> None:
    """docs/conformance.md, 23: they have the same claims, and the same names for them."""
    await work()
    await work()
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        runs = [await launch(command="python /flows/report_only.py") for _ in range(8)]
        for run in runs:
            await api.wait_for_state(run["id"], "COMPLETED")
        assert len(jobs.seen) == 8
    for run in runs:
        assert (await api.state_names(run["id"])).count("Running") == 1


async def test_a_stopped_worker_exits_at_once_and_its_job_keeps_running(
    api: PrefectApi, kube: Kube, namespace: str, work: Work, launch: Launch
) -> None:
    """As when a Deployment is rolled out: the next worker reports the end."""
    worker = await work()
    async with ObjectHistory(kube, "jobs", namespace) as jobs:
        run = await launch(command="python /flows/report_only.py 30")
        await api.wait_for_state(run["id"], "RUNNING")
        worker.daemon.send(signal.SIGTERM)
        await worker.ended(seconds=20)
        assert (await api.read_run(run["id"]))["state_type"] == "RUNNING"
        await work()
        await api.wait_for_state(run["id"], "COMPLETED")
        await jobs.until(lambda seen: "ttlSecondsAfterFinished" in seen[0]["spec"])
        assert len(jobs.seen) == 1
    assert "Traceback" not in worker.log


async def test_a_worker_that_polls_once_waits_for_its_runs_and_exits(
    api: PrefectApi, work: Work, launch: Launch
) -> None:
    """Also without a limit: `--run-once` includes the end of its runs."""
    run = await launch(command="python /flows/report_only.py 3")
    worker = await work("--run-once", ready=False)
    assert await worker.ended() == 0
    assert (await api.read_run(run["id"]))["state_type"] == "COMPLETED"
