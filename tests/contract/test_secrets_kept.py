"""Credentials of run pods in another namespace than the binding's: a named Secret or a copy."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import pytest

from tests.contract.conftest import make_run
from tests.support.account import MAKES_JOBS, SEES_BINDINGS, WRITES_SECRETS, Account
from tests.support.operator import PROGRAM
from tests.support.polling import poll
from tests.support.promises import SOON
from workpool_operator.jobs.secrets import plan_credentials
from workpool_operator.kube import secrets

OF_RUNS = "workpool-operator.dev/secret=environment"
KEPT = "workpool-operator.dev/secret=credentials"


def reference(name: str, key: str = "key") -> dict:
    return {"secretKeyRef": {"name": name, "key": key}}


@pytest.fixture
def write(kube):
    """`await write(namespace, name, key="value")`."""

    async def write(where: str, name: str, **values: str) -> None:
        metadata = {"name": name}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
        await kube.apply("secrets", where, secret)

    return write


@pytest.fixture
def kept(kube, other_namespace):
    """Wait for so many kept Secrets in the namespace of the Jobs, and return their values."""

    async def read(number: int = 1, *, until=lambda values: True, seconds: float = SOON) -> dict:
        async def values() -> list[dict]:
            found = await kube.list("secrets", other_namespace, selector=KEPT)
            return [decoded(secret) for secret in found]

        def enough(found: list[dict]) -> bool:
            return len(found) == number and all(map(until, found))

        found = await poll(values, until=enough, seconds=seconds)
        return found[0] if found else {}

    return read


def decoded(secret: dict) -> dict:
    data = secret.get("data") or {}
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


@pytest.fixture
def bound(binding, prefect_server, suspended_pool, other_namespace, namespace, write):
    """A binding with an API key whose Jobs run elsewhere; keywords are fields of `jobs`."""

    async def bind(**jobs) -> object:
        await write(namespace, "prefect", key="pnu_first")
        server = {"url": prefect_server.url, "apiKey": reference("prefect")}
        return await binding(
            workPool={"name": suspended_pool["name"]},
            server=server,
            jobs={"namespace": other_namespace, "serverURL": prefect_server.url, **jobs},
        )

    return bind


def environment(job: dict) -> dict[str, dict]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry for entry in container["env"]}


async def the_job(kube, where: str) -> dict:
    (job,) = await poll(lambda: kube.list("jobs", where), until=bool)
    return job


async def test_case_47_jobs_refer_to_a_copy_that_follows_its_source(
    api, kube, bound, operator, kept, suspended_pool, other_namespace, namespace, write
):
    await operator()
    served = await bound()
    await served.ready()
    assert await kept() == {"PREFECT_API_KEY": "pnu_first"}
    await make_run(api, suspended_pool)
    key = environment(await the_job(kube, other_namespace))["PREFECT_API_KEY"]
    (secret,) = await kube.list("secrets", other_namespace, selector=KEPT)
    name = secret["metadata"]["name"]
    assert key["valueFrom"] == {"secretKeyRef": {"name": name, "key": "PREFECT_API_KEY"}}
    assert secret["metadata"]["annotations"] == {
        "workpool-operator.dev/binding": f"{namespace}/pool"
    }
    assert name in (await served.condition("JobsPermitted", "True"))["message"]
    await write(namespace, "prefect", key="pnu_second")
    await kept(until=lambda values: values == {"PREFECT_API_KEY": "pnu_second"})


async def test_a_changed_or_deleted_copy_is_restored(kube, bound, operator, kept, other_namespace):
    await operator()
    await (await bound()).ready()
    (secret,) = await kube.list("secrets", other_namespace, selector=KEPT)
    name = secret["metadata"]["name"]
    await kube.patch("secrets", other_namespace, name, {"stringData": {"PREFECT_API_KEY": "wrong"}})
    await kept(until=lambda values: values["PREFECT_API_KEY"] == "pnu_first")
    await kube.delete("secrets", other_namespace, name)
    await kept(0)
    assert (await kept())["PREFECT_API_KEY"] == "pnu_first"


async def test_case_47_a_secret_that_is_named_for_run_pods_replaces_the_copy(
    api, kube, bound, operator, kept, suspended_pool, other_namespace, write
):
    await operator()
    served = await bound()
    await served.ready()
    await kept()
    await write(other_namespace, "lesser", key="pnu_lesser")
    await served.patch(jobs={"apiKey": reference("lesser")})
    await kept(0)
    await served.ready(seconds=SOON)
    await make_run(api, suspended_pool)
    key = environment(await the_job(kube, other_namespace))["PREFECT_API_KEY"]
    assert key["valueFrom"] == reference("lesser")


async def test_case_47_run_pods_can_use_a_key_with_fewer_rights_in_the_bindings_namespace_too(
    api, kube, binding, operator, suspended_pool, prefect_server, namespace, write
):
    await operator()
    await write(namespace, "prefect", key="pnu_first", lesser="pnu_lesser")
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        server={"url": prefect_server.url, "apiKey": reference("prefect")},
    )
    await served.ready()
    await make_run(api, suspended_pool)
    job = await the_job(kube, namespace)
    assert environment(job)["PREFECT_API_KEY"]["valueFrom"] == reference("prefect")
    await kube.delete("jobs", namespace, job["metadata"]["name"])
    await served.patch(jobs={"apiKey": reference("prefect", "lesser")})
    await served.ready(seconds=SOON)
    await make_run(api, suspended_pool)

    async def keys() -> list[dict]:
        jobs = await kube.list("jobs", namespace)
        return [environment(found)["PREFECT_API_KEY"]["valueFrom"] for found in jobs]

    await poll(keys, until=lambda found: reference("prefect", "lesser") in found)
    assert not await kube.list("secrets", namespace, selector=KEPT)


async def test_a_missing_named_secret_is_reported_with_its_path_until_it_exists(
    bound, operator, other_namespace, write
):
    await operator()
    served = await bound(apiKey=reference("lesser"))
    fault = await served.condition("JobsPermitted", "False", reason="SecretNotFound", seconds=SOON)
    where = "spec.jobs.apiKey.secretKeyRef: Secret 'lesser' does not exist in namespace"
    assert f"{where} {other_namespace!r}: create it" in fault["message"]
    await write(other_namespace, "lesser", other="x")
    fault = await served.condition(
        "JobsPermitted", "False", reason="SecretKeyMissing", seconds=SOON
    )
    assert "has no key 'key': add it" in fault["message"]  # not which keys another namespace has
    await write(other_namespace, "lesser", key="pnu_lesser")
    await served.ready(seconds=SOON)


# Rights


@pytest.fixture
def account(kube, cluster, kube_proxy, namespace, tmp_path: Path) -> Account:
    return Account(kube, cluster, kube_proxy, namespace, tmp_path / "account")


async def test_a_missing_right_to_write_the_copy_is_reported_with_both_fixes_until_it_is_granted(
    bound, operator, account, kept, namespace, other_namespace
):
    kubeconfig = await account.kubeconfig()
    await account.grant(SEES_BINDINGS, namespace)
    await account.grant(MAKES_JOBS, namespace)
    await account.grant(MAKES_JOBS, other_namespace, without="secrets")
    await operator(kubeconfig=kubeconfig)
    served = await bound()
    fault = await served.condition(
        "JobsPermitted", "False", reason="SecretsForbidden", seconds=SOON
    )
    assert (
        f"may not create secrets, patch secrets, delete secrets in namespace {other_namespace!r}"
        in (fault["message"])
    )
    for way_out in (
        "it copies spec.server.apiKey for run pods",
        f"kubectl -n {other_namespace} create rolebinding workpool-operator-secrets "
        f"--clusterrole=workpool-operator-secrets --serviceaccount={namespace}:operator",
        "and name it in spec.jobs.apiKey",
    ):
        assert way_out in fault["message"]
    await account.grant(WRITES_SECRETS, other_namespace)
    await served.ready(seconds=SOON)
    await kept()
    await served.delete()
    await served.gone()
    await kept(0)


async def test_the_operator_must_be_able_to_read_the_namespace_but_not_a_named_secret(
    bound, operator, account, namespace, other_namespace
):
    kubeconfig = await account.kubeconfig()
    await account.grant(SEES_BINDINGS, namespace)
    await account.grant(MAKES_JOBS, namespace)
    await operator(kubeconfig=kubeconfig)
    served = await bound(apiKey=reference("lesser"))
    unseen = await served.condition(
        "JobsPermitted", "False", reason="NamespaceForbidden", seconds=SOON
    )  # whether the namespace consents
    assert (
        f"kubectl -n {other_namespace} create rolebinding workpool-operator-jobs"
        in unseen["message"]
    )
    await account.grant(MAKES_JOBS, other_namespace, without="secrets")
    await served.ready(seconds=SOON)
    said = (await served.condition("JobsPermitted", "True"))["message"]
    assert "may not read Secret 'lesser' there, which run pods use" in said


async def test_a_missing_right_to_create_a_secret_per_run_is_reported_until_it_is_granted(
    api, kube, binding, operator, account, namespace, suspended_pool
):
    kubeconfig = await account.kubeconfig()
    await account.grant(SEES_BINDINGS, namespace)
    await account.grant(MAKES_JOBS, namespace)
    process = await operator(kubeconfig=kubeconfig)
    served = await binding(
        workPool={"name": suspended_pool["name"]}, jobs={"environmentSecret": True}
    )
    fault = await served.condition(
        "JobsPermitted", "False", reason="SecretsForbidden", seconds=SOON
    )
    assert "list secrets" in fault["message"]
    assert "spec.jobs.environmentSecret needs a Secret for each run" in fault["message"]
    assert "or set that field to false" in fault["message"]
    await account.grant(WRITES_SECRETS, namespace)
    await served.ready(seconds=SOON)
    await make_run(api, suspended_pool)

    async def owners() -> list:
        found = await kube.list("secrets", namespace, selector=OF_RUNS)
        return [secret["metadata"].get("ownerReferences") for secret in found]

    await poll(owners, until=lambda found: len(found) == 1 and found[0])
    assert "cannot collect" not in process.log


# The end of a binding


async def test_the_copy_outlives_its_binding_for_as_long_as_a_job_needs_it(
    api, kube, bound, operator, kept, suspended_pool, other_namespace
):
    await operator()
    served = await bound()
    await served.ready()
    await make_run(api, suspended_pool)
    job = await the_job(kube, other_namespace)
    await served.delete()
    await served.gone()
    (secret,) = await kube.list("secrets", other_namespace, selector=KEPT)
    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner["uid"] == job["metadata"]["uid"]
    await kube.delete("jobs", other_namespace, job["metadata"]["name"])
    await kept(0, seconds=60)


async def test_a_binding_that_is_applied_again_takes_its_copy_back(
    api, kube, bound, operator, kept, suspended_pool, other_namespace
):
    await operator()
    served = await bound()
    await served.ready()
    await make_run(api, suspended_pool)
    await the_job(kube, other_namespace)
    await served.delete()
    await served.gone()
    served = await bound()
    await served.ready()
    (secret,) = await kube.list("secrets", other_namespace, selector=KEPT)
    assert "ownerReferences" not in secret["metadata"]
    assert await kept() == {"PREFECT_API_KEY": "pnu_first"}


async def test_the_copy_of_a_binding_that_was_deleted_while_no_operator_ran_goes_too(
    bound, operator, kept
):
    process = await operator()
    served = await bound()
    await served.ready()
    await kept()
    process.kill()
    await served.delete()
    await operator()
    await served.gone()
    await kept(0)


async def test_the_deletion_of_a_binding_waits_until_its_copy_can_be_deleted(
    bound, operator, kept, kube_proxy, tmp_path
):
    process = await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    served = await bound()
    await served.ready()
    kube_proxy.on("DELETE", r"/secrets/").once().answer(503)
    await served.delete()
    await process.says("waits for the Kubernetes API")
    assert await served.read() is not None
    await served.gone()
    await kept(0)


async def test_unbind_deletes_the_copy_if_no_operator_does(
    bound, operator, kept, cluster, namespace
):
    process = await operator()
    served = await bound()
    await served.ready()
    await kept()
    process.kill()
    command = [str(PROGRAM), "unbind", f"--namespace={namespace}", "--yes", "--patience-seconds=0"]
    unbind = await asyncio.create_subprocess_exec(
        *command, env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    )
    assert await unbind.wait() == 0
    await served.gone()
    await kept(0)


async def test_noticing_deletions_adds_no_annotation_to_a_binding(binding, operator):
    await operator()
    served = await binding()
    await served.ready()
    assert "annotations" not in (await served.read())["metadata"]


async def test_a_copy_is_written_only_when_it_changes_and_keeps_nothing_of_the_previous_one(
    start, kube, other_namespace
):
    here = await start()

    async def keep(variable: str) -> dict:
        copy = plan_credentials({variable: "value"}, named={}, owner="data/etl").managed_secret
        assert copy is not None
        await secrets.apply(here.kube, other_namespace, copy)
        (found,) = await kube.list("secrets", other_namespace, selector=KEPT)
        return dict(found)

    first, again = await keep("PREFECT_API_KEY"), await keep("PREFECT_API_KEY")
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert decoded(await keep("PREFECT_API_AUTH_STRING")) == {"PREFECT_API_AUTH_STRING": "value"}
