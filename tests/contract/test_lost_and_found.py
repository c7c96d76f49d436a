"""Runs, Jobs and pools that the operator no longer finds, on the real servers."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tests.contract.conftest import make_run
from tests.contract.test_races_jobs import fail_job, has_job
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, path
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi
from tests.support.stepwise_controller import StepwiseController, stepwise_controller
from workpool_operator.errors import KubernetesUnavailable, PrefectUnavailable
from workpool_operator.jobs.diagnosis import OUTAGE
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

Start = Callable[..., Awaitable[StepwiseController]]
PAGE = {"Content-Type": "text/html"}


async def after_a_restart(start: Start) -> StepwiseController:
    here = await start()
    await here.list_jobs()
    return here


@pytest.mark.parametrize(
    "answer",
    [
        {"headers": PAGE},
        {"json": {"detail": "Not Found"}},
        {"json": {"message": "no Route matched with those values"}},
    ],
    ids=["a page", "another FastAPI", "other JSON"],
)
async def test_a_404_of_an_ingress_deletes_no_job(
    answer: Object, prefect_proxy: FaultProxy, start: Start, suspended_run: Object
) -> None:
    here = await start()
    await has_job(here, suspended_run)
    prefect_proxy.on("*", r".").answer(404, **answer)
    for _ in range(3):
        with pytest.raises(PrefectUnavailable):
            await here.read(suspended_run)
    assert not here.record(suspended_run).missing
    prefect_proxy.forget()
    assert "DeleteJob" not in await here.settle(suspended_run)
    assert len(here.jobs) == 1


async def test_a_run_counts_as_deleted_only_if_the_server_still_has_its_pool(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    prefect_proxy: FaultProxy,
    start: Start,
    suspended_pool: Object,
    suspended_run: Object,
) -> None:
    """A server that lost its data, or another server, answers 404 for every run."""
    here = await start()
    name = await has_job(here, suspended_run)
    await api.delete_run(suspended_run["id"])
    other = {**suspended_pool, "id": str(uuid.uuid4())}
    pool = prefect_proxy.on("GET", rf"/work_pools/{suspended_pool['name']}$").answer(
        200, json=other
    )
    with pytest.raises(PrefectUnavailable, match="has id"):
        await here.read(suspended_run)
    assert await kube.get("jobs", namespace, name)
    await pool.wait()
    prefect_proxy.forget()
    here.pass_time(suspended_run, 60)
    await here.read(suspended_run)
    assert "DeleteJob" in await here.settle(suspended_run)


async def test_runs_of_a_pool_that_was_created_again_are_followed_to_their_end(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    prefect_proxy: FaultProxy,
    kube_proxy: FaultProxy,
    start: Start,
    suspended_pool: Object,
    suspended_run: Object,
) -> None:
    """Their Jobs name the pool that they were claimed for."""
    name = await has_job(await start(), suspended_run)
    await api.delete_pool(suspended_pool["name"])
    template = suspended_pool["base_job_template"]
    recreated = await api.create_pool(suspended_pool["name"], template=template)
    assert recreated["id"] != suspended_pool["id"]
    context = stepwise_controller(
        server=PrefectEndpoint(prefect_proxy.url),
        kube_url=kube_proxy.url,
        pool=recreated,
        namespace=namespace,
    )
    async with context as here:
        await here.list_jobs()
        await here.read(suspended_run)
        await here.settle(suspended_run)
        assert here.snapshot(suspended_run).current_name == name
        await fail_job(kube, namespace, name)
        await here.list_jobs()
        here.pass_time(suspended_run, 20)
        await here.settle(suspended_run)
    assert (await api.read_run(suspended_run["id"]))["state_type"] == "CRASHED"


async def retried_in_process(api: PrefectApi, run: Object) -> None:
    """As a flow with retries that failed once."""
    await api.set_state(run["id"], "RUNNING")
    await api.update_run(run["id"], empirical_policy={"retries": 2, "retry_type": "in_process"})
    await api.set_state(run["id"], "SCHEDULED", name="AwaitingRetry", force=True)


async def test_a_run_whose_job_vanishes_after_a_retry_in_process_ends(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    name = await has_job(await start(), suspended_run)
    await retried_in_process(api, suspended_run)
    await api.set_state(suspended_run["id"], "RUNNING", name="Retrying", force=True)
    await kube.delete("jobs", namespace, name)
    await kube.wait("jobs", namespace, name, until=lambda job: job is None)
    here = await after_a_restart(start)
    await here.read(suspended_run)
    await here.settle(suspended_run)
    here.pass_time(suspended_run, 60)
    await here.settle(suspended_run)
    run = await api.read_run(suspended_run["id"])
    assert run["state_type"] == "CRASHED"
    assert "vanished" in run["state"]["message"]


async def test_a_retry_whose_process_vanished_is_polled_again(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    name = await has_job(await start(), suspended_run)
    await retried_in_process(api, suspended_run)
    await kube.delete("jobs", namespace, name)
    await kube.wait("jobs", namespace, name, until=lambda job: job is None)
    here = await after_a_restart(start)
    await here.read(suspended_run)
    await here.settle(suspended_run)
    here.pass_time(suspended_run, 60)
    await here.settle(suspended_run)
    policy = (await api.read_run(suspended_run["id"]))["empirical_policy"]
    assert policy["retry_type"] == "reschedule"


async def test_a_deployment_at_its_limit_leaves_the_slot_to_others(
    api: PrefectApi, kube: Kube, namespace: str, suspended_pool: Object, operator, binding
) -> None:
    held = await api.create_deployment(
        flow="hello", name="held", pool=suspended_pool["name"], concurrency_limit=1
    )
    limit = (await api.one("GET", f"/deployments/{held['id']}"))["global_concurrency_limit"]
    await api.request("PATCH", f"/v2/concurrency_limits/{limit['id']}", {"limit": 0})
    first = await api.create_run(held["id"])
    healthy = await make_run(api, suspended_pool)
    await operator()
    await binding(workPool={"name": suspended_pool["name"]}, concurrencyLimit=1)
    await api.wait(healthy["id"], until=lambda run: bool(run["infrastructure_pid"]))
    assert (await api.read_run(first["id"]))["state_type"] == "SCHEDULED"


async def test_an_error_of_one_job_is_distinguished_from_an_outage(
    api: PrefectApi,
    kube_proxy: FaultProxy,
    start: Start,
    suspended_run: Object,
    suspended_pool: Object,
) -> None:
    here = await start()
    kube_proxy.on("POST", r"/jobs$", body=suspended_run["id"]).answer(500)

    async def tried() -> None:
        here.know(suspended_run, refused_until=0.0)
        with suppress(KubernetesUnavailable):
            await here.settle(suspended_run)

    await here.claimed(suspended_run)
    await tried()
    await tried()
    assert (await api.read_run(suspended_run["id"]))["state_name"] == OUTAGE
    assert here.record(suspended_run).only_this_refused_since is None
    await has_job(here, await make_run(api, suspended_pool))
    await tried()
    since = here.record(suspended_run).only_this_refused_since
    assert since is not None
    here.know(suspended_run, only_this_refused_since=since - 600)
    assert type(here.next(suspended_run)).__name__ in ("RefreshRun", "ReportCrashed")
    await tried()
    run = await api.read_run(suspended_run["id"])
    assert run["state_type"] == "CRASHED"
    assert "pendingTimeoutSeconds" in run["state"]["message"]


async def test_a_403_from_an_admission_policy_is_retried_and_not_reported_as_a_missing_right(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    """The text is a real API server's."""
    name = f"deny-{namespace}"
    rule = {"expression": "false", "message": "no Jobs on Fridays", "reason": "Forbidden"}
    resource = {
        "apiGroups": ["batch"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["jobs"],
    }
    only = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [resource], "namespaceSelector": only},
        "validations": [rule],
    }
    root = "/apis/admissionregistration.k8s.io/v1"
    policies = f"{root}/validatingadmissionpolicies"
    bindings = f"{root}/validatingadmissionpolicybindings"
    metadata = {"name": name}
    bound = {"policyName": name, "validationActions": ["Deny"]}
    await kube.http.post(policies, json={"metadata": metadata, "spec": policy})
    await kube.http.post(bindings, json={"metadata": metadata, "spec": bound})
    try:
        here = await start()
        await poll(lambda: _dry_run(kube, namespace), until=lambda status: status == 403)
        await here.claimed(suspended_run)
        await here.settle(suspended_run)
    finally:
        await kube.http.delete(f"{bindings}/{name}")
        await kube.http.delete(f"{policies}/{name}")
    run = await api.read_run(suspended_run["id"])
    assert (run["state_type"], run["state_name"]) == ("PENDING", "JobRefused")
    assert "no Jobs on Fridays" in run["state"]["message"]
    assert "right" not in run["state"]["message"]


async def _dry_run(kube: Kube, namespace: str) -> int:
    """Return the API server's answer to a Job; a policy takes effect after a moment."""
    pod = {"containers": [{"name": "a", "image": "a"}], "restartPolicy": "Never"}
    job = {"metadata": {"name": "tried"}, "spec": {"template": {"spec": pod}}}
    answer = await kube.http.post(path("jobs", namespace), json=job, params={"dryRun": "All"})
    return answer.status_code
