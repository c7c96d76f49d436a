"""The status says why a binding claims no or only some runs. Runs in flight are always followed."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from tests.contract.conftest import make_run
from tests.support.fault_proxy import Answer
from tests.support.polling import poll
from tests.support.promises import AT_ONCE, SOON

NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
async def job_of(kube, namespace):
    """`await job_of(run)` waits for the run's Job and checks that it is the only one."""

    async def found(run):
        selector = f"workpool-operator.dev/flow-run-id={run['id']}"
        [job] = await poll(
            lambda: kube.list("jobs", namespace, selector=selector), until=bool, seconds=40
        )
        return job

    return found


async def test_a_misspelt_queue_is_reported_and_the_other_queues_are_served(
    api, binding, operator, suspended_pool, job_of
):
    pool = suspended_pool["name"]
    await operator()
    served = await binding(workPool={"name": pool}, workQueues=["hihg", "default"])
    fault = await served.condition("WorkPoolFound", "False", reason="QueueNotFound")
    assert "no work queue 'hihg'; it has 'default'" in fault["message"]
    await served.condition("Ready", "False", reason="QueueNotFound")
    claiming = await served.condition("Claiming", "True", reason="QueueNotFound", seconds=SOON)
    assert "other queues are claimed" in claiming["message"]
    deployment = await api.create_deployment(flow="hello", name=pool, pool=pool)
    await job_of(await api.create_run(deployment["id"]))
    await api.one("POST", f"/work_pools/{pool}/queues", {"name": "hihg"})
    await served.ready(seconds=SOON)
    await job_of(await api.create_run(deployment["id"], work_queue_name="hihg"))
    await served.patch(workQueues=["nothing"])
    await served.condition("Claiming", "False", reason="QueueNotFound", seconds=SOON)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"suspend": True}, {"suspend": False}),
        ({"workQueues": ["other"]}, {"workQueues": ["other", "default"]}),
    ],
    ids=["resumed", "another queue"],
)
async def test_a_binding_whose_spec_admits_due_runs_claims_them_at_once(
    before, after, api, binding, operator, suspended_pool, kube, namespace
):
    pool = suspended_pool["name"]
    await api.one("POST", f"/work_pools/{pool}/queues", {"name": "other"})
    await operator()
    served = await binding(workPool={"name": pool}, poll={"intervalSeconds": 55}, **before)
    await served.ready()
    deployment = await api.create_deployment(flow="hello", name=pool, pool=pool)
    await api.create_run(deployment["id"])
    await asyncio.sleep(2)
    assert await kube.list("jobs", namespace) == []
    await served.patch(**after)
    await poll(lambda: kube.list("jobs", namespace), until=bool, seconds=AT_ONCE)


async def test_refused_polls_are_reported_although_the_pool_is_found(
    binding, operator, prefect_proxy
):
    await operator()
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    refused = {"detail": "Method Not Allowed"}
    prefect_proxy.on("POST", "get_scheduled_flow_runs").answer(405, json=refused)
    for condition in ("ServerReachable", "Ready", "Claiming"):
        fault = await served.condition(condition, "False", reason="PollRefused", seconds=SOON)
        assert "HTTP 405" in fault["message"]
    prefect_proxy.forget()
    await served.condition("Claiming", "True", reason="Polling", seconds=SOON)
    await served.ready(seconds=AT_ONCE)


async def test_after_an_outage_a_binding_is_ready_once_a_poll_succeeded(
    binding, operator, prefect_proxy
):
    await operator()
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    with prefect_proxy.offline():
        await served.condition("Ready", "False", reason="ConnectionFailed", seconds=AT_ONCE)
        silent = prefect_proxy.on("POST", "get_scheduled_flow_runs").hold()
    for condition in ("Ready", "Claiming"):
        state = await served.condition(condition, "Unknown", reason="PollOverdue", seconds=AT_ONCE)
        assert "no poll of the work pool has succeeded since" in state["message"]
    await silent.wait()
    prefect_proxy.forget()
    await served.ready(seconds=AT_ONCE)


async def test_without_an_event_stream_the_status_says_so_and_runs_are_polled(
    api, binding, operator, prefect_proxy, suspended_pool, job_of
):
    prefect_proxy.on("GET", "/events/out").answer(403, json={"detail": "no websockets"})
    await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        server={"url": prefect_proxy.url},
        poll={"intervalSeconds": 2},
    )
    lost = await served.condition("EventsConnected", "False", reason="PollingOnly")
    assert "HTTP 403" in lost["message"]
    assert "every 2 s" in lost["message"]
    await served.ready()
    await job_of(await make_run(api, suspended_pool))


async def empty(rule, call) -> Answer:
    return Answer(200)


async def test_malformed_addresses_answers_and_jobs_do_not_affect_other_bindings(
    api, kube, namespace, binding, operator, prefect_proxy, suspended_pool, job_of
):
    """An invalid address, answers that are not Prefect's, a Job with copied labels."""
    process = await operator()
    rule = prefect_proxy.on("GET", "/work_pools/").answer(200, json={})
    addressless = await binding("addressless", server={"url": "http://host:abc/api"})
    gateway = await binding("gateway", server={"url": prefect_proxy.url})
    served = await binding(workPool={"name": suspended_pool["name"]})
    fault = await addressless.condition("ServerResolved", "False", reason="InvalidServerURL")
    assert "http://host:abc/api" in fault["message"]
    fault = await gateway.condition("ServerReachable", "False")
    assert "not the answer of a Prefect API" in fault["message"]
    await served.ready()
    job = await job_of(await make_run(api, suspended_pool))
    await kube.create("jobs", namespace, copied(job, run_id="nightly"))
    await process.says("is ignored: label workpool-operator.dev/flow-run-id")
    await job_of(await make_run(api, suspended_pool))
    await served.wait(lambda status: status["runs"]["pending"] == 2, seconds=SOON)
    assert rule.fired
    prefect_proxy.forget()
    await gateway.ready(seconds=SOON)
    prefect_proxy.on("POST", "get_scheduled_flow_runs").do(empty)
    await gateway.condition("Ready", "False", reason="PollRefused", seconds=SOON)
    assert "Traceback" not in process.log
    assert await process.probe("healthz") == 200


def copied(job, *, run_id):
    """Return a copy of one of our Jobs, as a person would make it."""
    labels = dict(job["metadata"]["labels"]) | {"workpool-operator.dev/flow-run-id": run_id}
    pod = job["spec"]["template"]["spec"]
    template = {"metadata": {"labels": own(labels)}, "spec": pod}
    metadata = {"name": f"copy-{uuid.uuid4().hex[:8]}", "labels": own(labels)}
    return {"metadata": metadata, "spec": {"suspend": True, "template": template}}


def own(labels):
    return {key: value for key, value in labels.items() if "batch" not in key and "uid" not in key}


@pytest.mark.parametrize("fault", ["template", "pool gone", "rights"])
async def test_a_run_in_flight_is_followed_by_an_operator_that_starts_with_a_fault(
    api, kube, namespace, binding, operator, suspended_pool, job_of, kube_proxy, tmp_path, fault
):
    pool = suspended_pool["name"]
    served = await binding(workPool={"name": pool})
    first = await operator()
    run = await make_run(api, suspended_pool)
    job = await job_of(run)
    await api.wait(run["id"], until=lambda run: bool(run["infrastructure_pid"]))
    first.kill()
    match fault:
        case "template":
            broken = {**suspended_pool["base_job_template"], "job_configuration": {"command": "x"}}
            await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": broken})
        case "pool gone":
            await api.delete_pool(pool)
        case "rights":
            reviews = kube_proxy.on("POST", "selfsubjectrulesreviews")
            reviews.answer(201, json={"status": {"resourceRules": [], "incomplete": False}})
    await fail(kube, namespace, job["metadata"]["name"])
    await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    ended = await api.wait_for_state(run["id"], "CRASHED", seconds=40)
    assert "BackoffLimitExceeded" in ended["state"]["message"]
    await served.condition("Claiming", "False", seconds=SOON)
    if fault == "pool gone":
        await api.create_pool(pool, template=suspended_pool["base_job_template"])
        await served.ready(seconds=SOON)


async def fail(kube, namespace, name):
    """Set the Job's status as the Job controller does when its pods have failed."""
    for types in (["FailureTarget"], ["FailureTarget", "Failed"]):
        why = {"status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}
        made = [{"type": type_, "lastTransitionTime": NOW, **why} for type_ in types]
        status = {"startTime": NOW, "conditions": made}
        await kube.patch("jobs", namespace, name, {"status": status}, subresource="status")


async def test_two_bindings_on_one_queue_share_its_runs_and_name_each_other(
    api, kube, namespace, binding, operator, suspended_pool
):
    spec = {"workPool": {"name": suspended_pool["name"]}, "poll": {"intervalSeconds": 1}}
    blue, green = await binding("blue", **spec), await binding("green", **spec)
    await operator()
    for each, other in ((blue, green), (green, blue)):
        shared = await each.condition("PoolShared", "True", reason="OtherBinding", seconds=SOON)
        assert f"{namespace}/{other.name}" in shared["message"]
        await each.ready()
    runs = [await make_run(api, suspended_pool) for _ in range(8)]

    async def recorded():
        found = await asyncio.gather(*(api.read_run(run["id"]) for run in runs))
        return [run["infrastructure_pid"] for run in found]

    pids = await poll(recorded, until=all, seconds=60)
    jobs = await kube.list("jobs", namespace)
    assert sorted(pids) == sorted(f"{namespace}:{job['metadata']['name']}" for job in jobs)
    assert len(jobs) == len(runs)
    await blue.patch(workQueues=["default"])
    await green.patch(workQueues=["another"])
    await blue.condition("PoolShared", "False", reason="Alone", seconds=SOON)
