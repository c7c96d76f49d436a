"""`spec.jobs.environmentSecret`: a run's environment is in a Secret of its Job, even if the
operator is killed at any moment."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.conftest import make_run
from tests.support.polling import poll
from tests.support.stepwise_controller import StepwiseController
from workpool_operator.errors import KubernetesUnavailable
from workpool_operator.runs.secret_collector import collect

OURS = "workpool-operator.dev/secret=environment"
JOB = r"/jobs$"
SECRET = r"/secrets$"
A_SECRET = r"/secrets/[^/]+$"


@pytest.fixture
async def here(start) -> StepwiseController:
    """A controller of a binding that sets `environmentSecret`."""
    return await start(environment_secret=True)


@pytest.fixture
async def run(api, suspended_pool) -> dict:
    return await make_run(api, suspended_pool, job_variables={"env": {"PASSWORD": "pw-4711"}})


@pytest.fixture
def environments(kube, namespace):
    """Return the existing Secrets of environments."""

    async def read() -> list[dict]:
        return await kube.list("secrets", namespace, selector=OURS)

    return read


async def created(here: StepwiseController, run: dict) -> None:
    """Try once to create the run's Job."""
    await here.create_job(run)


async def restarted(start: Any, run: dict) -> StepwiseController:
    """Another process, which found the run PENDING."""
    fresh: StepwiseController = await start(environment_secret=True)
    await fresh.list_jobs()
    await fresh.read(run)
    return fresh


async def one_job(kube, namespace: str) -> dict:
    (job,) = await kube.list("jobs", namespace)
    return job


def values(secret: dict) -> dict[str, str]:
    return {k: base64.b64decode(v).decode() for k, v in secret["data"].items()}


def is_owned(secret: dict, job: dict) -> bool:
    owners = secret["metadata"].get("ownerReferences", [])
    return [owner["uid"] for owner in owners] == [job["metadata"]["uid"]]


async def collect_secrets(
    here: StepwiseController, *, grace: timedelta = timedelta(minutes=10)
) -> None:
    await here.list_jobs()
    owner = here.owner
    await collect(
        here.kube,
        owner.namespace,
        binding_id=owner.binding_id,
        jobs=list(here.jobs),
        before=datetime.now(UTC) - grace,
    )


async def test_case_48_the_secret_is_created_before_its_job_which_owns_it(
    here, run, kube, kube_proxy, namespace, environments
):
    await here.claimed(run)
    kube_proxy.forget()
    await here.settle(run)
    writes = [
        (c.method, c.path.rpartition("/")[2]) for c in kube_proxy.calls() if c.method != "GET"
    ]
    job, (secret,) = await one_job(kube, namespace), await environments()
    name = secret["metadata"]["name"]
    assert writes == [("POST", "secrets"), ("POST", "jobs"), ("PATCH", name)]
    assert name == job["metadata"]["name"] + "-env"
    assert is_owned(secret, job)
    assert values(secret)["PASSWORD"] == "pw-4711"
    assert "pw-4711" not in str(job)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert not [entry for entry in container["env"] if entry.get("value")]
    assert secret["immutable"] is True


async def test_a_kill_between_secret_and_job_leaves_one_of_each_after_the_restart(
    start, here, run, api, kube, kube_proxy, namespace, environments
):
    await here.claimed(run)
    kube_proxy.on("POST", JOB).once().drop()
    with pytest.raises(KubernetesUnavailable):
        await created(here, run)
    (left,) = await environments()
    deployment = await api.one("GET", f"/deployments/{run['deployment_id']}")
    changed = {"job_variables": {"env": {"PASSWORD": "pw-new"}}}
    await api.request("PATCH", f"/deployments/{deployment['id']}", changed)
    fresh = await restarted(start, run)
    await fresh.settle(run)
    job, (secret,) = await one_job(kube, namespace), await environments()
    assert is_owned(secret, job)
    assert secret["metadata"]["uid"] != left["metadata"]["uid"]
    assert values(secret)["PASSWORD"] == "pw-new"  # the Secret has what the Job was rendered with


async def test_case_48_the_collector_sets_the_owner_that_a_killed_operator_could_not_set(
    here, run, kube, kube_proxy, namespace, environments
):
    await here.claimed(run)
    kube_proxy.on("PATCH", A_SECRET).once().drop()
    await here.settle(run)
    job, (secret,) = await one_job(kube, namespace), await environments()
    assert not is_owned(secret, job)
    await collect_secrets(here)
    (secret,) = await environments()
    assert is_owned(secret, job)


async def test_a_lost_answer_to_the_creation_of_a_job_duplicates_nothing(
    start, here, run, kube, kube_proxy, namespace, environments
):
    await here.claimed(run)
    kube_proxy.on("POST", JOB).once().after().drop()
    with pytest.raises(KubernetesUnavailable):
        await created(here, run)
    await created(await restarted(start, run), run)
    job, (secret,) = await one_job(kube, namespace), await environments()
    assert is_owned(secret, job)


async def test_case_48_a_refused_job_leaves_no_secret(
    here, run, api, kube, kube_proxy, namespace, environments
):
    await here.claimed(run)
    kube_proxy.on("POST", JOB).answer(422, json={"message": "spec is wrong", "reason": "Invalid"})
    await here.settle(run)
    assert (await api.read_run(run["id"]))["state_type"] == "CRASHED"
    assert await environments() == []
    assert await kube.list("jobs", namespace) == []


async def test_a_job_that_waits_for_a_quota_has_no_secret(
    here, run, kube, kube_proxy, namespace, environments
):
    await here.claimed(run)
    quota = {"message": "exceeded quota: few, requested: count/jobs.batch=1", "reason": "Forbidden"}
    kube_proxy.on("POST", JOB).once().answer(403, json=quota)
    await here.settle(run)
    assert await environments() == []
    here.know(run, refused_until=0.0)
    await here.settle(run)
    job, (secret,) = await one_job(kube, namespace), await environments()
    assert is_owned(secret, job)


async def test_a_refused_secret_ends_the_run_without_a_job_and_names_the_grant(
    here, run, api, kube, kube_proxy, namespace
):
    await here.claimed(run)
    text = 'secrets is forbidden: User "operator" cannot create resource "secrets"'
    kube_proxy.on("POST", SECRET).answer(403, json={"message": text, "reason": "Forbidden"})
    await here.settle(run)
    message = (await api.read_run(run["id"]))["state"]["message"]
    assert f"the Secret for its environment: {text}" in message
    assert "create rolebinding workpool-operator-secrets" in message
    assert await kube.list("jobs", namespace) == []


async def test_a_secret_without_a_job_is_deleted_after_a_grace_period(
    here, run, kube_proxy, environments
):
    await here.claimed(run)
    kube_proxy.on("POST", JOB).once().drop()
    with pytest.raises(KubernetesUnavailable):
        await created(here, run)
    await collect_secrets(here)
    assert len(await environments()) == 1
    await collect_secrets(here, grace=timedelta(0))
    assert await environments() == []


async def test_the_collector_reads_no_values_and_leaves_owned_secrets_alone(
    here, run, kube_proxy, environments
):
    await here.offer(run)
    await here.settle(run)
    kube_proxy.forget()
    await collect_secrets(here, grace=timedelta(0))
    assert len(await environments()) == 1
    (asked,) = kube_proxy.calls(SECRET)
    assert asked.method == "GET"
    assert "waits-for-job" in asked.query


async def test_case_48_without_the_option_there_is_no_secret_and_no_other_call(
    start, run, kube_proxy, environments
):
    here = await start()
    await here.claimed(run)
    kube_proxy.forget()
    await here.settle(run)
    assert [call.method for call in kube_proxy.calls()] == ["POST"]
    assert await environments() == []


async def test_the_secret_is_deleted_with_its_job(here, run, kube, namespace, environments):
    await here.offer(run)
    await here.settle(run)
    job = await one_job(kube, namespace)
    await kube.delete("jobs", namespace, job["metadata"]["name"])
    await poll(environments, until=lambda found: found == [], seconds=60)


@pytest.mark.parametrize("moment", ["Secret", "Job"])
async def test_a_kill_after_the_creation_of_a_secret_or_a_job_duplicates_neither(
    api,
    kube,
    kube_proxy,
    namespace,
    binding,
    operator,
    suspended_pool,
    environments,
    tmp_path,
    moment,
):
    kubeconfig = kube_proxy.write_kubeconfig(tmp_path / "kubeconfig")
    pids: list[int] = []
    path = {"Secret": SECRET, "Job": JOB}[moment]
    rule = kube_proxy.on("POST", path, query="^$").once().after().kill(lambda: pids[-1])
    pids.append((await operator(kubeconfig=kubeconfig)).pid)
    served = await binding(
        workPool={"name": suspended_pool["name"]}, jobs={"environmentSecret": True}
    )
    await served.ready()
    run = await make_run(api, suspended_pool)
    await rule.wait()
    await operator(kubeconfig=kubeconfig)
    await api.wait(run["id"], until=lambda found: bool(found["infrastructure_pid"]))
    job = await one_job(kube, namespace)

    async def owned() -> list[bool]:
        return [is_owned(secret, job) for secret in await environments()]

    await poll(owned, until=lambda found: found == [True])
