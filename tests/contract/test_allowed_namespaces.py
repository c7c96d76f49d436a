"""Runs that choose the namespace of their Job, among those that the binding and they allow."""

from __future__ import annotations

import pytest

from tests.contract.conftest import make_run
from tests.support.polling import poll
from tests.support.promises import SOON
from workpool_operator.binding.consent import ANNOTATION
from workpool_operator.kube.models import RUN_LABEL


@pytest.fixture
async def served(
    kube, binding, operator, prefect_server, suspended_pool, namespace, other_namespace
):
    """A Ready binding whose runs can choose another namespace, and its operator."""
    process = await operator()
    secret = {"metadata": {"name": "prefect"}, "stringData": {"key": "pnu_key"}}
    await kube.create("secrets", namespace, secret)
    reference = {"secretKeyRef": {"name": "prefect", "key": "key"}}
    made = await binding(
        workPool={"name": suspended_pool["name"]},
        server={"url": prefect_server.url, "apiKey": reference},
        jobs={"allowedNamespaces": [other_namespace], "serverURL": prefect_server.url},
    )
    await made.ready()
    return made, process


def job_of(kube, namespace, run):
    """Wait for the run's Job in the namespace."""

    async def found():
        jobs = await kube.list("jobs", namespace)
        return [job for job in jobs if job["metadata"]["labels"].get(RUN_LABEL) == run["id"]]

    return poll(found, until=bool)


async def test_a_job_is_created_where_its_run_chooses(
    api, kube, served, suspended_pool, namespace, other_namespace
):
    chosen = {"namespace": other_namespace}
    there = await make_run(api, suspended_pool, job_variables=chosen)
    here = await make_run(api, suspended_pool)
    elsewhere = await make_run(api, suspended_pool, job_variables={"namespace": "kube-system"})
    [job] = await job_of(kube, other_namespace, there)
    [flow] = job["spec"]["template"]["spec"]["containers"]
    [key] = [entry for entry in flow["env"] if entry["name"] == "PREFECT_API_KEY"]
    assert await kube.get("secrets", other_namespace, key["valueFrom"]["secretKeyRef"]["name"])
    await job_of(kube, namespace, here)
    crashed = await api.wait_for_state(elsewhere["id"], "CRASHED", seconds=SOON)
    for text in ("'kube-system'", "job variable namespace of the deployment", "allowedNamespaces"):
        assert text in crashed["state"]["message"]
    run = await poll(lambda: api.read_run(there["id"]), until=lambda run: run["infrastructure_pid"])
    assert run["infrastructure_pid"] == f"{other_namespace}:{job['metadata']['name']}"


async def test_jobs_are_followed_in_a_namespace_that_is_no_longer_allowed(
    api, kube, served, operator, suspended_pool, prefect_server, namespace, other_namespace
):
    binding, process = served
    chosen = {"namespace": other_namespace}
    run = await make_run(api, suspended_pool, job_variables=chosen)
    await job_of(kube, other_namespace, run)
    await binding.patch(jobs={"allowedNamespaces": None, "serverURL": prefect_server.url})
    process.kill()
    await operator()
    late = await make_run(api, suspended_pool, job_variables=chosen)
    await job_of(kube, namespace, late)
    await api.cancel(run["id"])
    await api.wait_for_state(run["id"], "CANCELLED", seconds=SOON)
    await poll(lambda: kube.list("jobs", other_namespace), until=lambda jobs: not jobs)
    await poll(lambda: kube.list("secrets", other_namespace), until=lambda found: not found)
    await binding.wait(lambda status: "jobNamespaces" not in status, seconds=SOON)


async def test_only_the_runs_for_a_namespace_without_consent_wait(
    api, kube, served, suspended_pool, namespace, other_namespace
):
    binding, _ = served
    consent = {"metadata": {"annotations": {ANNOTATION: None}}}
    await kube.patch("namespaces", "", other_namespace, consent)
    permitted = await binding.condition(
        "JobsPermitted", "True", reason="PartlyAllowed", seconds=SOON
    )
    assert f"kubectl annotate namespace {other_namespace}" in permitted["message"]
    chosen = {"namespace": other_namespace}
    waiting = await make_run(api, suspended_pool, job_variables=chosen)
    here = await make_run(api, suspended_pool)
    await job_of(kube, namespace, here)
    await api.wait(waiting["id"], until=lambda run: run["state_name"] == "JobRefused", seconds=SOON)
    assert await kube.list("jobs", other_namespace) == []
    await kube.patch(
        "namespaces", "", other_namespace, {"metadata": {"annotations": {ANNOTATION: "*"}}}
    )
    await job_of(kube, other_namespace, waiting)
