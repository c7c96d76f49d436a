"""One request per Job, and which answers of the API server are retried (docs/conformance.md, 44,
46)."""

from __future__ import annotations

import json

import pytest

from tests.contract.conftest import make_run

JOB = r"/jobs$"
REAL = "^$"  # a dry run has a query


async def test_case_44_a_job_is_posted_once_as_rendered_and_no_request_waits_for_its_end(
    start, suspended_run, api, kube, kube_proxy, namespace
):
    here = await start()
    await here.claimed(suspended_run)
    kube_proxy.forget()
    assert await here.settle(suspended_run) == ["CreateJob", "RecordInfrastructurePid"]
    (post,) = kube_proxy.calls()
    assert (post.method, post.path) == ("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs")
    sent = json.loads(post.body)
    (job,) = await kube.list("jobs", namespace)
    assert sent["metadata"]["name"] == job["metadata"]["name"]
    assert sent["metadata"]["namespace"] == namespace
    run = await api.read_run(suspended_run["id"])
    assert run["infrastructure_pid"] == f"{namespace}:{job['metadata']['name']}"
    assert run["state_type"] == "PENDING"


FINAL = {
    "not allowed": (403, "Forbidden", "jobs.batch is forbidden: User cannot create"),
    "no such namespace": (404, "NotFound", "namespaces not found"),
    "not valid": (422, "Invalid", "Job.batch is invalid"),
    "not understood": (400, "BadRequest", "Job in version v1 cannot be handled"),
}


@pytest.mark.parametrize(("status", "reason", "text"), FINAL.values(), ids=FINAL.keys())
async def test_case_46_a_permanent_refusal_is_not_retried_and_ends_the_run(
    start, suspended_run, api, kube_proxy, status, reason, text
):
    here = await start()
    await here.claimed(suspended_run)
    refusals = kube_proxy.on("POST", JOB).answer(status, json={"message": text, "reason": reason})
    await here.settle(suspended_run)
    assert len(refusals.fired) == 1
    assert (await api.read_run(suspended_run["id"]))["state_type"] == "CRASHED"


PASSING = {
    "an error of the server": (503, "ServiceUnavailable", "the server is currently busy"),
    "too many requests": (429, "TooManyRequests", "too many requests, come back"),
    "a full quota": (403, "Forbidden", "exceeded quota: few, requested: count/jobs.batch=1"),
    "a webhook's no": (400, "BadRequest", 'admission webhook "w" denied the request: not now'),
}


@pytest.mark.parametrize(("status", "reason", "text"), PASSING.values(), ids=PASSING.keys())
async def test_case_46_a_temporary_refusal_is_retried_until_there_is_one_job(
    api,
    kube,
    kube_proxy,
    namespace,
    operator,
    binding,
    suspended_pool,
    tmp_path,
    status,
    reason,
    text,
):
    rule = kube_proxy.on("POST", JOB, query=REAL)
    kubeconfig = kube_proxy.write_kubeconfig(tmp_path / "kubeconfig")
    await operator(kubeconfig=kubeconfig)
    await (await binding(workPool={"name": suspended_pool["name"]})).ready()
    refused = rule.once().answer(status, json={"message": text, "reason": reason})
    run = await make_run(api, suspended_pool)
    await refused.wait()
    await api.wait(run["id"], until=lambda found: bool(found["infrastructure_pid"]))
    assert len(await kube.list("jobs", namespace)) == 1
    assert (await api.read_run(run["id"]))["state_type"] == "PENDING"
