"""Jobs in another namespace than the binding's, which that namespace must allow."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.contract.conftest import make_run
from tests.support.polling import poll
from tests.support.promises import AT_ONCE, SOON
from workpool_operator.binding.consent import ANNOTATION


@pytest.fixture
def allow(kube):
    """`await allow(namespace, "data")` sets the annotation; None removes it."""

    async def allow(name: str, annotation: str | None) -> None:
        change = {"metadata": {"annotations": {ANNOTATION: annotation}}}
        await kube.patch("namespaces", "", name, change)

    return allow


@pytest.fixture
def run_command(cluster):
    """`run_command(text)` runs the command of a message in a shell, with the cluster's kubectl."""
    kubectl = cluster.kubectl

    def run(text: str) -> None:
        path = f"{kubectl.program.parent}:{os.environ['PATH']}"
        environment = os.environ | {"KUBECONFIG": str(kubectl.kubeconfig), "PATH": path}
        subprocess.run(text, shell=True, check=True, env=environment)

    return run


async def test_nothing_is_created_in_a_namespace_that_does_not_allow_the_binding(
    kube,
    binding,
    operator,
    prefect_server,
    suspended_pool,
    namespace,
    other_namespace,
    allow,
    run_command,
):
    await allow(other_namespace, "some-other")
    secret = {"metadata": {"name": "prefect"}, "stringData": {"key": "pnu_key"}}
    await kube.create("secrets", namespace, secret)
    reference = {"secretKeyRef": {"name": "prefect", "key": "key"}}
    await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        server={"url": prefect_server.url, "apiKey": reference},
        jobs={"namespace": other_namespace, "serverURL": prefect_server.url},
    )
    refused = await served.condition(
        "JobsPermitted", "False", reason="NamespaceNotConsenting", seconds=AT_ONCE
    )
    assert (
        "some-other" not in refused["message"]
    )  # the author must not learn which others are allowed
    assert await kube.list("secrets", other_namespace) == []  # no copy of the credentials yet
    template = await served.condition("TemplateValid", "True")
    assert (
        "does not allow bindings" in template["message"]
    )  # the API server was not asked to check a Job there either
    run_command(refused["message"].partition("To allow it: ")[2])
    consented = await kube.get("namespaces", "", other_namespace)
    assert consented["metadata"]["annotations"][ANNOTATION] == f"some-other,{namespace}"
    await served.ready(seconds=SOON)


async def test_a_withdrawn_consent_stops_claims_and_existing_jobs_are_followed(
    api, kube, binding, operator, prefect_server, suspended_pool, other_namespace, allow
):
    await allow(other_namespace, "*")
    first = await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        jobs={"namespace": other_namespace, "serverURL": prefect_server.url},
    )
    await served.ready()
    run = await make_run(api, suspended_pool)
    await poll(lambda: kube.list("jobs", other_namespace), until=bool)
    await allow(other_namespace, None)
    await served.condition("Ready", "False", reason="NamespaceNotConsenting", seconds=SOON)
    late = await make_run(api, suspended_pool)
    first.kill()
    await operator()  # which never saw the consent
    await api.cancel(run["id"])
    await api.wait_for_state(run["id"], "CANCELLED", seconds=SOON)
    await poll(lambda: kube.list("jobs", other_namespace), until=lambda jobs: not jobs)
    assert (await api.read_run(late["id"]))["state_type"] == "SCHEDULED"


async def test_a_claimed_run_gets_no_job_without_consent(
    start, kube, api, suspended_run, namespace, allow
):
    """The binding's author runs the server, which can present any run as claimed."""
    here = await start(bound_in="other")
    await here.claimed(suspended_run)
    assert await here.settle(suspended_run) == ["CreateJob", "ReportWaiting"]
    waiting = (await api.read_run(suspended_run["id"]))["state"]
    assert (waiting["type"], waiting["name"]) == ("PENDING", "JobRefused")
    assert f"kubectl annotate namespace {namespace}" in waiting["message"]
    assert await kube.list("jobs", namespace) == []
    await allow(namespace, "other")
    here.know(suspended_run, refused_until=0.0)
    assert await here.settle(suspended_run) == ["CreateJob", "RecordInfrastructurePid"]
