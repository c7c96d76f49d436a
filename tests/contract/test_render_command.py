"""`workpool-operator render` prints the Job that the operator creates."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.support.command import Command
from tests.support.polling import poll
from tests.support.prefect import GUARDED_AUTH, stock_template

PEER_PYTHON = ".venv-peer/bin/python"
SECRET = "sK-9d81fe2b"


@pytest.fixture
def command(cluster, tmp_path) -> Command:
    return Command(tmp_path, {"KUBECONFIG": str(cluster.kubeconfig)})


@pytest.fixture
def spec(pool, prefect_server) -> dict[str, Any]:
    return {"workPool": {"name": pool}, "server": {"url": prefect_server.url}}


@pytest.fixture
def file(command, namespace, spec):
    """The binding of the `binding` fixture, as a file."""
    return command.write("binding.yaml", manifest(namespace, spec))


@pytest.fixture
async def suspended(api, pool):
    """The pool's Jobs are suspended, so that they have no pods."""
    template = stock_template()
    template["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    return template


def manifest(namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "workpool-operator.dev/v1alpha1",
        "kind": "WorkPoolBinding",
        "metadata": {"name": "pool", "namespace": namespace},
        "spec": spec,
    }


async def make_run(api, pool, *, run_variables=None, **job_variables):
    deployment = await api.create_deployment(
        flow="hello", name=f"nightly-{pool}", pool=pool, job_variables=job_variables
    )
    run = await api.create_run(deployment["id"], job_variables=run_variables or {})
    return deployment, run


async def defaulted(kube, namespace, job) -> dict[str, Any]:
    """Return the Job as the API server would store it."""
    renamed = {**job, "metadata": {**job["metadata"], "name": "other"}}
    answer = await kube.http.post(
        f"/apis/batch/v1/namespaces/{namespace}/jobs", params={"dryRun": "All"}, json=renamed
    )
    answer.raise_for_status()
    return comparable(answer.json())


def comparable(job: dict[str, Any]) -> dict[str, Any]:
    """Return the Job without what the API server generates for each Job."""
    spec = {key: value for key, value in job["spec"].items() if key != "selector"}
    pod = spec["template"]["metadata"]
    pod["labels"] = own(pod["labels"])
    metadata = {key: job["metadata"].get(key) for key in ("namespace", "annotations")}
    return {"metadata": {**metadata, "labels": own(job["metadata"]["labels"])}, "spec": spec}


def own(labels: dict[str, str]) -> dict[str, str]:
    generated = ("batch.kubernetes.io/", "controller-uid", "job-name")
    return {key: value for key, value in labels.items() if not key.startswith(generated)}


async def test_the_printed_job_is_the_one_that_the_operator_creates(
    api, kube, namespace, pool, spec, file, suspended, binding, operator, command
):
    variables = {
        "env": {"STAGE": "deployment", "PREFECT_LOGGING_LEVEL": "DEBUG"},
        "labels": {"team": "data platform"},
        "image": "registry.example/flows:1",
    }
    mine = {"env": {"STAGE": "run"}}
    _, run = await make_run(api, pool, run_variables=mine, **variables)
    before = await command("render", "--flow-run", run["id"], "--binding", file)
    assert "not claimed yet" in before.err
    await operator()
    await (await binding(**spec)).ready()
    [job] = await poll(lambda: kube.list("jobs", namespace), until=bool, seconds=30)
    shown = (await command("render", "--flow-run", run["id"], "--binding", file)).document
    assert shown["metadata"]["name"] == job["metadata"]["name"]
    assert await defaulted(kube, namespace, shown) == comparable(job)
    assert without_claim(before.document) == without_claim(shown)
    served = await command("render", "--flow-run", run["id"], "--binding", f"{namespace}/pool")
    assert served.document == shown


def without_claim(job: dict[str, Any]) -> dict[str, Any]:
    job = copy.deepcopy(job)
    job["metadata"].pop("name")
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata["labels"].pop("workpool-operator.dev/claim-id")
    return job


async def test_a_deployment_is_found_by_name_and_by_id(api, pool, file, command, suspended):
    deployment, _ = await make_run(api, pool, env={"STAGE": "test"})
    by_id = await command("render", "--deployment", deployment["id"], "--binding", file)
    name = f"hello/{deployment['name']}"
    by_name = await command("render", "--deployment", name, "--binding", file, "-o", "json")
    assert by_id.document == json.loads(by_name.out)
    mine = command.write("variables.yaml", {"env": {"STAGE": "mine"}})
    found = await command("render", "--deployment", name, "--variables", mine, "--binding", file)
    assert environment(found.document)["STAGE"] == "mine"


async def test_a_deployment_can_be_rendered_with_another_template_or_pool(
    api, pool, prefect_server, command, file
):
    deployment, _ = await make_run(api, pool, image="a:1")
    template = stock_template(nodeSelector={"disk": "fast"})
    other_template = command.write("template.json", template)
    url = {"PREFECT_API_URL": prefect_server.url}
    name = f"hello/{deployment['name']}"
    tried = await command("render", "--deployment", name, "--template", other_template, **url)
    assert tried.document["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "fast"}
    alone = await command("render", "--pool", pool, **url)
    assert alone.document["metadata"]["labels"]["prefect.io/work-pool-name"] == pool
    await api.create_pool(f"{pool}-2", template=template)
    try:
        other = await command("render", "--deployment", name, "--pool", f"{pool}-2", **url)
        assert other.document["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "fast"}
        bound = await command("render", "--pool", f"{pool}-2", "--binding", file)
        assert f"serves work pool '{pool}', not '{pool}-2'" in bound.err
    finally:
        await api.delete_pool(f"{pool}-2")


def environment(job: dict[str, Any]) -> dict[str, Any]:
    entries = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


async def test_each_value_is_explained_by_its_source(api, pool, file, command, suspended):
    _, run = await make_run(
        api, pool, image="a:1", env={"A": "1", "B": "1"}, run_variables={"env": {"B": "2"}}
    )
    result = await command("render", "--flow-run", run["id"], "--binding", file, "--explain")
    assert result.document["kind"] == "Job"
    comments = {
        line.partition("  #")[0].strip(): line.partition("  # ")[2]
        for line in result.out.splitlines()
    }
    assert comments["image: a:1"] == "deployment: image"
    assert comments["imagePullPolicy: IfNotPresent"] == "pool default: image_pull_policy"
    assert comments["suspend: true"] == "template"
    assert comments["- name: A"] == "deployment: env"
    assert comments["- name: B"] == "run: env"
    assert comments["- name: PREFECT_API_URL"] == "binding"
    assert comments["- name: PREFECT__FLOW_NAME"] == "Prefect"
    as_json = await command(
        "render", "--flow-run", run["id"], "--binding", file, "--explain", "-o", "json"
    )
    origins = json.loads(as_json.out)["origins"]
    assert origins["spec.template.spec.containers[0].image"] == "deployment: image"


async def test_the_value_of_a_block_is_never_printed(
    api, pool, file, command, suspended, prefect_server
):
    kind = await api.one("GET", "/block_types/slug/secret")
    [schema] = await api.many(
        "POST",
        "/block_schemas/filter",
        {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}},
    )
    block = {
        "name": f"token-{pool}",
        "data": {"value": SECRET},
        "block_type_id": kind["id"],
        "block_schema_id": schema["id"],
    }
    await api.one("POST", "/block_documents/", block)
    reference = f"{{{{ prefect.blocks.secret.token-{pool} }}}}"
    variables = {"env": {"PLAIN": reference, "URL": f"https://me:{reference}@host/x"}}
    _, run = await make_run(api, pool, **variables)
    for options in (
        [],
        ["--explain"],
        ["-o", "json"],
        ["--diff", "--peer-python", PEER_PYTHON],
        ["--server-dry-run"],
    ):
        result = await command("render", "--flow-run", run["id"], "--binding", file, *options)
        assert result.code == 0, result.err
        assert SECRET not in result.everything
        assert "<redacted>" in result.out or "--diff" in options  # where both sides have the same
    _, broken = await make_run(api, f"{pool}", image=f"not an image {reference}")
    result = await command("render", "--flow-run", broken["id"], "--binding", file)
    assert "image" in result.error
    assert SECRET not in result.everything


async def test_every_difference_from_the_stock_worker_is_documented(
    api, pool, file, command, suspended
):
    _, run = await make_run(api, pool, env={"STAGE": "test"}, labels={"team": "a b"})
    peer = ["--diff", "--peer-python", PEER_PYTHON]
    result = await command("render", "--flow-run", run["id"], "--binding", file, *peer)
    assert result.code == 0, result.err
    assert "+++ operator" in result.out
    assert "name: computed, at most 57 characters, never `generateName`" in result.out
    assert "not documented" not in result.out
    found = await command("render", "--flow-run", run["id"], "--binding", file, *peer, "-o", "json")
    assert found.document["equivalent"] is True


async def test_a_server_dry_run_shows_warnings_and_errors_and_creates_nothing(
    api, kube, namespace, pool, file, command, suspended
):
    template = stock_template(volumez=[], volumes=[{"name": "v", "emptyDir": {}}])
    template_file = command.write("template.json", template)
    _, run = await make_run(api, pool)
    arguments = ["render", "--flow-run", run["id"], "--binding", file, "--server-dry-run"]
    result = await command(*arguments, "--template", template_file)
    assert result.document["kind"] == "Job"
    assert 'the API server warns: unknown field "spec.template.spec.volumez"' in result.err
    assert "the API server accepts the Job" in result.err
    template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["hostname"] = "A b"
    command.write("template.json", template)
    refused = await command(*arguments, "--template", template_file)
    assert "the API server refuses the Job: " in refused.error
    assert "spec.template.spec.hostname" in refused.error
    assert await kube.list("jobs", namespace) == []


async def test_credentials_come_from_the_secret_that_the_binding_names(
    kube, namespace, auth_server, auth_pool, auth_api, command
):
    key = {"secretKeyRef": {"name": "prefect", "key": "auth"}}
    spec = {"workPool": {"name": auth_pool}, "server": {"url": auth_server, "authString": key}}
    file = command.write("binding.yaml", manifest(namespace, spec))
    missing = await command("render", "--pool", auth_pool, "--binding", file)
    assert "Secret 'prefect' does not exist" in missing.error
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prefect"}}
    await kube.create("secrets", namespace, secret | {"stringData": {"auth": GUARDED_AUTH}})
    result = await command("render", "--pool", auth_pool, "--binding", file)
    assert environment(result.document)["PREFECT_API_AUTH_STRING"] == key
    assert GUARDED_AUTH not in result.everything
    mine = {"PREFECT_API_AUTH_STRING": GUARDED_AUTH, "KUBECONFIG": "/nonexistent"}
    own = await command("render", "--pool", auth_pool, "--binding", file, **mine)
    assert environment(own.document)["PREFECT_API_AUTH_STRING"] == key
    wrong = {"PREFECT_API_AUTH_STRING": "admin:wrong"}
    refused = await command("render", "--pool", auth_pool, "--binding", file, **wrong)
    assert "401" in refused.error
    assert "admin:wrong" not in refused.everything


async def test_an_unknown_name_is_reported_with_similar_names(api, pool, prefect_server, command):
    deployment, _ = await make_run(api, pool)
    url = {"PREFECT_API_URL": prefect_server.url}
    name = f"hello/{deployment['name']}"
    result = await command("render", "--deployment", name.replace("nightly", "nihgtly"), **url)
    assert f"Did you mean '{name}'" in result.error
    result = await command("render", "--deployment", name, "--pool", f"x{pool}", **url)
    assert f"has no work pool 'x{pool}'. Did you mean '{pool}'" in result.error
    unknown = "00000000-0000-0000-0000-000000000001"
    result = await command("render", "--flow-run", unknown, **url)
    assert f"has no flow run {unknown}" in result.error
    result = await command("render", "--pool", pool, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert "127.0.0.1:9" in result.error
    result = await command("render", "--pool", pool, "--binding", "no/binding", **url)
    assert "WorkPoolBinding no/binding" in result.error
