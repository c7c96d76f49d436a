"""Refusals of a Job, and requests without an answer, are reported with their fix
(docs/conformance.md, 45)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object, path
from tests.support.prefect import PrefectApi
from tests.support.stepwise_controller import StepwiseController, stepwise_controller
from workpool_operator.errors import KubernetesUnavailable
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

Start = Callable[..., Awaitable[StepwiseController]]

JOBS = r"/jobs$"


async def state_of(api: PrefectApi, run: Object) -> tuple[str, str, str]:
    found = await api.read_run(run["id"])
    return found["state_type"], found["state_name"], found["state"]["message"]


async def settle_quietly(here: StepwiseController, run: Object) -> None:
    """Repeat a failed action, as the reconciler does."""
    with suppress(KubernetesUnavailable):
        await here.settle(run)


async def real_refusal(kube: Kube, namespace: str) -> Object:
    """Return the API server's message to a user without rights."""
    answer = await kube.http.post(
        path("jobs", namespace), json={}, headers={"Impersonate-User": "tester"}
    )
    assert answer.status_code == 403
    body: Object = answer.json()
    return body


async def test_case_45_a_403_is_reported_with_the_missing_right_and_how_to_grant_it(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    start: Start,
    suspended_run: Object,
    kube_proxy: FaultProxy,
) -> None:
    kube_proxy.on("POST", JOBS).answer(403, json=await real_refusal(kube, namespace))
    here = await start()
    await here.claimed(suspended_run)
    await here.settle(suspended_run)
    type_, _, message = await state_of(api, suspended_run)
    assert type_ == "CRASHED"
    assert 'User "tester" cannot create resource "jobs"' in message
    assert f"right to create jobs in namespace '{namespace}'" in message
    assert f"kubectl -n {namespace} create rolebinding" in message


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "Status", "reason": "Forbidden"},
        {"kind": "Status", "message": "jobs.batch is forbidden"},
        {"kind": "Status"},
        ["no status at all"],
        None,
    ],
    ids=["no message", "no reason", "neither", "no status", "no body"],
)
async def test_case_45_every_kind_of_403_is_reported_with_its_fix(
    body: Any,
    api: PrefectApi,
    namespace: str,
    start: Start,
    suspended_run: Object,
    kube_proxy: FaultProxy,
) -> None:
    kube_proxy.on("POST", JOBS).answer(403, json=body)
    here = await start()
    await here.claimed(suspended_run)
    await here.settle(suspended_run)
    type_, _, message = await state_of(api, suspended_run)
    assert type_ == "CRASHED"
    assert message.startswith("The API server refused the run's Job: ")
    assert f"right to create jobs in namespace '{namespace}'" in message


async def test_case_45_a_missing_namespace_is_named(
    api: PrefectApi,
    prefect_server: Endpoint,
    suspended_pool: Object,
    suspended_run: Object,
    kube_proxy: FaultProxy,
) -> None:
    absent = "test-absent-namespace"
    context = stepwise_controller(
        server=PrefectEndpoint(prefect_server.url),
        kube_url=kube_proxy.url,
        pool=suspended_pool,
        namespace=absent,
    )
    async with context as here:
        await here.claimed(suspended_run)
        await here.settle(suspended_run)
    type_, _, message = await state_of(api, suspended_run)
    assert type_ == "CRASHED"
    assert f'namespaces "{absent}" not found' in message
    assert f"kubectl create namespace {absent}" in message
    assert "spec.jobs.namespace" in message


async def test_case_45_a_full_quota_is_waited_for_and_reported_with_its_numbers_and_the_fix(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    await kube.create("resourcequotas", namespace, quota)
    await kube.wait("resourcequotas", namespace, "none", until=lambda q: "hard" in q["status"])
    here = await start()
    await here.claimed(suspended_run)
    await here.settle(suspended_run)
    type_, name, message = await state_of(api, suspended_run)
    assert (type_, name) == ("PENDING", "QuotaExceeded")
    assert "exceeded quota: none" in message
    assert "used: count/jobs.batch=0, limited: count/jobs.batch=0" in message
    assert "as soon as the namespace's quota allows" in message


async def test_case_45_an_invalid_job_is_reported_with_every_path(
    api: PrefectApi, start: Start, suspended_pool: Object
) -> None:
    base = suspended_pool["base_job_template"]
    pod = base["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["hostname"] = "{{ hostname }}"
    base["variables"]["properties"]["hostname"] = {"type": "string"}
    await api.request("PATCH", f"/work_pools/{suspended_pool['name']}", {"base_job_template": base})
    deployment = await api.create_deployment(
        flow="hello",
        name="invalid",
        pool=suspended_pool["name"],
        job_variables={"hostname": "Bad Name"},
    )
    run = await api.create_run(deployment["id"])
    here = await start()
    await here.claimed(run)
    await here.settle(run)
    type_, _, message = await state_of(api, run)
    assert type_ == "CRASHED"
    assert "job_manifest.spec.template.spec.hostname" in message
    assert "job variable hostname of the deployment" in message
    assert "Correct the deployment's job variables" in message


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_a_lasting_outage_of_the_api_server_is_reported_as_what_the_run_waits_for(
    status: int,
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    start: Start,
    suspended_run: Object,
    kube_proxy: FaultProxy,
) -> None:
    for number in (1, 2):
        rule = kube_proxy.on("POST", JOBS).nth(number)
        rule.answer(status, json={"message": "etcd is on fire"})
    here = await start()
    await here.claimed(suspended_run)
    await settle_quietly(here, suspended_run)
    assert (await state_of(api, suspended_run))[:2] == ("PENDING", "Pending")  # not yet reported
    await settle_quietly(here, suspended_run)
    type_, name, message = await state_of(api, suspended_run)
    assert (type_, name) == ("PENDING", "KubernetesUnavailable")
    assert "etcd is on fire" in message
    here.know(suspended_run, refused_until=0.0)
    assert "CreateJob" in await here.settle(suspended_run)
    assert len(await kube.list("jobs", namespace)) == 1
