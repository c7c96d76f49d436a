"""A pool's template and a run's values become one Job, or an error with a path."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient

from tests.support.prefect import Object, stock_template
from tests.support.subjects import (
    IDENTITY,
    RUN,
    STOCK,
    container,
    env,
    render,
    subject,
    with_container,
)
from workpool_operator.errors import RenderError
from workpool_operator.jobs import manifest as manifests
from workpool_operator.jobs import render as rendering
from workpool_operator.jobs.environment import SIGTERM_BEHAVIOR
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.kube import models

REFERENCE = {"secretKeyRef": {"name": "prefect", "key": "key"}}


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    """A client without a server: rendering without blocks and variables sends no request."""
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        yield client


def with_manifest(**spec: Any) -> Object:
    """Return the stock template with these fields added to the Job's spec."""
    base = stock_template()
    base["job_configuration"]["job_manifest"]["spec"].update(spec)
    return base


def with_job(**fields: Any) -> Object:
    base = stock_template()
    base["job_configuration"]["job_manifest"].update(fields)
    return base


def with_pod_metadata(**metadata: Any) -> Object:
    base = stock_template()
    manifest = base["job_configuration"]["job_manifest"]
    manifest["spec"]["template"]["metadata"] = metadata
    return base


async def test_the_stock_template_gives_a_job(client: PrefectClient) -> None:
    manifest = await render(client)
    assert manifest["apiVersion"] == "batch/v1"
    assert manifest["metadata"]["name"].startswith("brave-lynx-")
    assert manifest["metadata"]["namespace"] == "data"
    assert "generateName" not in manifest["metadata"]
    assert manifest["spec"]["backoffLimit"] == 0
    assert container(manifest)["args"] == ["prefect", "flow-run", "execute"]
    assert container(manifest)["image"].startswith("prefecthq/prefect:3.")


async def test_values_of_the_run_override_the_deployments(client: PrefectClient) -> None:
    deployment = {"image": "a:1", "finished_job_ttl": 5, "service_account_name": "etl"}
    manifest = await render(client, deployment=deployment, run={"image": "b:2"})
    assert container(manifest)["image"] == "b:2"
    assert manifest["spec"]["template"]["spec"]["serviceAccountName"] == "etl"


async def test_environments_are_merged_and_the_run_wins(client: PrefectClient) -> None:
    base = stock_template()
    base["variables"]["properties"]["env"]["default"] = {"A": "pool", "B": "pool", "C": "pool"}
    deployment = {"env": {"B": "deployment", "C": "deployment", "EMPTY": ""}}
    merged = env(await render(client, base=base, deployment=deployment, run={"env": {"C": "run"}}))
    assert (merged["A"], merged["B"], merged["C"]) == ("pool", "deployment", "run")
    assert merged["EMPTY"] == ""


async def test_the_environment_says_which_run_and_server_it_is(client: PrefectClient) -> None:
    entries = env(await render(client))
    assert entries["PREFECT__FLOW_RUN_ID"] == str(RUN)
    assert entries["PREFECT_API_URL"] == "http://server/api"
    assert entries["PREFECT_API_KEY"] == REFERENCE
    assert entries[SIGTERM_BEHAVIOR] == "reschedule"


async def test_a_user_may_replace_and_remove_what_the_binding_sets(client: PrefectClient) -> None:
    own = {"env": {"PREFECT_API_URL": "http://other/api", "PREFECT_API_KEY": None}}
    entries = env(await render(client, run=own))
    assert entries["PREFECT_API_URL"] == "http://other/api"
    assert "PREFECT_API_KEY" not in entries


async def test_what_the_binding_sets_wins_over_what_the_template_fixed(
    client: PrefectClient,
) -> None:
    fixed = [{"name": "PREFECT_API_URL", "value": "http://old/api"}, {"name": "A", "value": "1"}]
    entries = env(await render(client, base=with_container(env=fixed)))
    assert entries["PREFECT_API_URL"] == "http://server/api"
    assert entries["A"] == "1"


async def test_a_job_is_named_after_its_run_or_as_the_template_says(client: PrefectClient) -> None:
    async def name(base: Any = STOCK, **run: Any) -> str:
        return str((await render(client, base=base, run=run))["metadata"]["name"])

    fixed = stock_template()
    fixed["job_configuration"]["job_manifest"]["metadata"]["generateName"] = "nightly-"
    assert (await name()).startswith("brave-lynx-")
    assert (await name(name="Load {{ ctx.flow.name }}")).startswith("load-hello-")
    assert (await name(fixed)).startswith("nightly-")


async def test_the_standard_labels_say_what_a_job_is_part_of(client: PrefectClient) -> None:
    labels = (await render(client))["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "prefect"
    assert labels["app.kubernetes.io/name"] == "demo"
    assert labels["prefect.io/version"] == labels["app.kubernetes.io/version"]


async def test_labels_of_run_and_deployment_are_on_the_job_and_ours_win(
    client: PrefectClient,
) -> None:
    base = stock_template()
    base["job_configuration"]["job_manifest"]["metadata"]["labels"] = {"team": "template"}
    given = subject(base=base, run={"labels": {"tier": "silver"}})
    assert given.deployment is not None
    of_run = {"team": "payments", "cost center": 42, "urgent": True, "prefect.flow.id": "x"}
    ours = {"prefect.io/flow-run-name": "forged", models.RUN_LABEL: "forged"}
    labelled = RenderInput(
        run={**given.run, "labels": of_run | ours},
        flow=given.flow,
        deployment={**given.deployment, "labels": {"team": "all", "tier": "gold"}},
        pool=given.pool,
        worker_name=given.worker_name,
    )
    manifest = await rendering.render_manifest(labelled, IDENTITY, client=client)
    for metadata in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        labels = metadata["labels"]
        assert (labels["team"], labels["tier"]) == ("payments", "silver")
        assert (labels["cost-center"], labels["urgent"]) == ("42", "true")
        assert labels["prefect.io/flow-run-name"] == "brave-lynx"
        assert labels[models.RUN_LABEL] == str(RUN)
        assert "prefect.flow.id" not in labels


async def test_a_label_or_annotation_that_is_not_a_string_becomes_its_yaml_text(
    client: PrefectClient,
) -> None:
    given = {"labels": {"spot": False}, "annotations": {"safe-to-evict": False, "n": 5}}
    base = stock_template()
    metadata = base["job_configuration"]["job_manifest"]["metadata"]
    metadata["annotations"] = {"fixed": True}
    metadata = (await render(client, base=base, run={"labels": given["labels"]}))["metadata"]
    assert (metadata["labels"]["spot"], metadata["annotations"]["fixed"]) == ("false", "true")
    base["job_configuration"]["annotations"] = "{{ annotations }}"
    base["variables"]["properties"]["annotations"] = {"type": "object"}
    metadata = (await render(client, base=base, run=given))["metadata"]
    assert metadata["annotations"].items() >= {"safe-to-evict": "false", "n": "5"}.items()


async def test_a_null_variable_removes_its_field_or_item(client: PrefectClient) -> None:
    base = stock_template(imagePullSecrets=[{"name": "{{ pull }}"}, {"name": "fixed"}])
    given = {"pull": None, "cpu_request": None, "memory_request": "1Gi"}
    pod = (await render(client, base=base, run=given))["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "fixed"}]
    assert pod["containers"][0]["resources"]["requests"] == {"memory": "1Gi"}


async def test_the_default_command_can_be_a_part_of_a_longer_text(
    client: PrefectClient,
) -> None:
    args = ["{{ command }}; curl -X POST localhost:15020/quitquitquit"]
    base = with_container(command=["/bin/sh", "-c"], args=args)
    for unset in ({}, {"command": None}, {"command": ""}):
        [script] = container(await render(client, base=base, run=unset))["args"]
        assert script == "prefect flow-run execute; curl -X POST localhost:15020/quitquitquit"
    [script] = container(await render(client, base=base, run={"command": "python a.py"}))["args"]
    assert script.startswith("python a.py; curl")


async def test_the_command_of_a_bundle_is_split_as_a_shell_would(
    client: PrefectClient,
) -> None:
    command = "uv run --quiet --with 'prefect-aws>=0.5.5' --python 3.12 -m execute --key 6f-aa"
    alone = subject(run={"command": command})
    manifest = await rendering.render_manifest(
        RenderInput(alone.run, alone.flow, None, alone.pool, alone.worker_name),
        IDENTITY,
        client=client,
    )
    args = container(manifest)["args"]
    assert args[3:7] == ["--with", "prefect-aws>=0.5.5", "--python", "3.12"]
    assert "prefect.io/deployment-id" not in manifest["metadata"]["labels"]


async def test_a_pool_for_another_cluster_is_refused(client: PrefectClient) -> None:
    elsewhere = {"config": {}, "context_name": "far"}
    with pytest.raises(RenderError, match="cluster_config: names another cluster"):
        await render(client, run={"cluster_config": elsewhere})


async def test_numbers_in_an_environment_become_text(client: PrefectClient) -> None:
    assert env(await render(client, run={"env": {"WORKERS": 4}}))["WORKERS"] == "4"


async def test_an_emptied_namespace_is_the_default_one(client: PrefectClient) -> None:
    assert await render(client, run={"namespace": None}) == await render(client)


async def test_a_list_as_environment_keeps_its_references(client: PrefectClient) -> None:
    base = with_container(
        env=[{"name": "SECRET", "valueFrom": REFERENCE}, {"name": "A", "value": "1"}]
    )
    entries = env(await render(client, base=base, run={"env": {"A": "run"}}))
    assert entries["SECRET"] == REFERENCE
    assert entries["A"] == "run"


async def test_retries_of_kubernetes_leave_a_stopped_run_to_the_next_pod(
    client: PrefectClient,
) -> None:
    own = {"env": {SIGTERM_BEHAVIOR: "reschedule"}}
    entries = env(await render(client, base=with_manifest(backoffLimit=6), run=own))
    assert entries[SIGTERM_BEHAVIOR] == "relinquish"
    own = {"env": {SIGTERM_BEHAVIOR: "die"}}
    assert env(await render(client, run=own))[SIGTERM_BEHAVIOR] == "die"


async def test_a_misplaced_parallelism_is_moved(client: PrefectClient) -> None:
    base = stock_template(parallelism=1, completions=1)
    spec = (await render(client, base=base))["spec"]
    assert (spec["parallelism"], spec["completions"]) == (1, 1)
    assert not {"parallelism", "completions"} & spec["template"]["spec"].keys()


async def test_the_ttl_is_recorded_until_the_end_is_reported(client: PrefectClient) -> None:
    manifest = await render(client, run={"finished_job_ttl": 5})
    assert "ttlSecondsAfterFinished" not in manifest["spec"]
    assert manifest["metadata"]["annotations"][models.TTL_ANNOTATION] == "5"
    assert models.TTL_ANNOTATION not in (await render(client))["metadata"]["annotations"]


@pytest.mark.parametrize("ttl", [2**31, "9" * 5000, -1, "soon", 1.5, True])
async def test_a_ttl_that_kubernetes_would_refuse_is_an_error(
    client: PrefectClient, ttl: object
) -> None:
    """Otherwise the later patch would fail, and the Job would never be deleted."""
    with pytest.raises(RenderError, match=r"ttlSecondsAfterFinished: expected .*seconds, got"):
        await render(client, run={"finished_job_ttl": ttl})
    manifest = await render(client, run={"finished_job_ttl": 2**31 - 1})
    assert manifests.ttl_of(manifest["metadata"]["annotations"]) == 2**31 - 1


@pytest.mark.parametrize("text", ["never", "-1", "", "1.5", str(2**31)])
def test_an_invalid_recorded_ttl_is_ignored(text: str) -> None:
    assert manifests.ttl_of({models.TTL_ANNOTATION: text}) is None
    assert manifests.ttl_of({}) is None


FORGED = {
    models.FINAL_STATE_ANNOTATION: "COMPLETED/Completed/",
    models.TTL_ANNOTATION: "never",
    models.PREFIX + "of-tomorrow": "1",
}


@pytest.mark.parametrize(
    "given",
    [
        {"run": {"annotations": FORGED, "labels": FORGED}},
        {"deployment": {"annotations": FORGED, "labels": FORGED}},
        {"base": with_job(metadata={"annotations": FORGED, "labels": FORGED})},
        {"base": with_pod_metadata(annotations=FORGED, labels=FORGED)},
        {"run": {"labels": {"Workpool-Operator.dev/of-tomorrow": "1"}}},
    ],
    ids=["run", "deployment", "template", "pods of the template", "in capitals"],
)
async def test_users_cannot_set_labels_or_annotations_with_our_prefix(
    client: PrefectClient, given: Object
) -> None:
    """The operator acts on these labels and annotations."""
    ours, theirs = await render(client), await render(client, **given)
    for of in ("labels", "annotations"):
        for job, user in zip(_metadata_of(ours), _metadata_of(theirs), strict=True):
            assert _marks(user[of]) == _marks(job[of])


def _metadata_of(manifest: Object) -> tuple[Object, Object]:
    return manifest["metadata"], manifest["spec"]["template"]["metadata"]


def _marks(entries: Object) -> Object:
    return {key: value for key, value in entries.items() if key.startswith(models.PREFIX)}


async def test_race_17_the_stock_workers_observer_finds_no_label_of_its_own(
    client: PrefectClient,
) -> None:
    base = stock_template()
    base["job_configuration"]["job_manifest"]["metadata"]["labels"] = {
        "prefect.io/flow-run-id": "x"
    }
    manifest = await render(client, base=base, run={"labels": {"prefect.io/flow-run-id": "y"}})
    for metadata in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert "prefect.io/flow-run-id" not in metadata["labels"]
        assert metadata["annotations"]["prefect.io/flow-run-id"] == str(RUN)
        assert metadata["labels"]["prefect.io/flow-run-name"] == "brave-lynx"


async def test_our_labels_are_on_the_job_and_on_its_pods_and_cannot_be_replaced(
    client: PrefectClient,
) -> None:
    manifest = await render(client, run={"labels": {models.RUN_LABEL: "forged", "team": "etl"}})
    for metadata in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert metadata["labels"].items() >= IDENTITY.labels.items()
        assert metadata["labels"]["team"] == "etl"


async def test_race_18_one_runs_values_do_not_leak_into_the_next(client: PrefectClient) -> None:
    """Prefect's own code changes the deployment and the template that it is given."""
    shared = subject(deployment={"env": {"SHARED": "1"}}, run={"env": {"SECRET": "first"}})
    before = copy.deepcopy((shared.deployment, shared.pool, shared.run))
    first = await rendering.render_manifest(shared, IDENTITY, client=client)
    assert (shared.deployment, shared.pool, shared.run) == before
    second = RenderInput(
        run={**shared.run, "job_variables": {}},
        flow=shared.flow,
        deployment=shared.deployment,
        pool=shared.pool,
        worker_name=shared.worker_name,
        environment=shared.environment,
    )
    assert env(first)["SECRET"] == "first"
    assert "SECRET" not in env(await rendering.render_manifest(second, IDENTITY, client=client))


async def test_race_18_the_operators_own_environment_is_not_the_runs(
    client: PrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/operator")
    monkeypatch.setenv("PREFECT_API_URL", "http://operator/api")
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Secret": "1"}')
    entries = env(await render(client))
    assert "PREFECT_HOME" not in entries
    assert "PREFECT_CLIENT_CUSTOM_HEADERS" not in entries
    assert entries["PREFECT_API_URL"] == "http://server/api"


async def test_a_run_without_a_deployment_is_rendered(client: PrefectClient) -> None:
    alone = subject(run={"command": "echo 'a b'"})
    manifest = await rendering.render_manifest(
        RenderInput(alone.run, alone.flow, None, alone.pool, alone.worker_name),
        IDENTITY,
        client=client,
    )
    assert container(manifest)["args"] == ["echo", "a b"]
    assert "prefect.io/deployment-id" not in manifest["metadata"]["labels"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"base": {"job_configuration": {}, "variables": {}}}, "job_manifest"),
        (
            {"run": {"env": [{"value": "1"}]}},
            "job variable env of the flow run: expected a name in each entry",
        ),
        ({"run": {"command": "sh -c 'unbalanced"}}, "containers[0].args"),
        ({"base": with_container(args={"a": 1})}, "containers[0].args"),
        ({"base": with_manifest(template=None)}, "spec.template.spec.containers"),
        ({"base": with_manifest(ttlSecondsAfterFinished="soon")}, "ttlSecondsAfterFinished"),
        ({"run": {"labels": ["a"]}}, "labels"),
    ],
    ids=["no manifest", "unnamed env", "quotes", "args", "no pod", "ttl", "labels"],
)
async def test_invalid_values_are_refused_with_their_path(
    client: PrefectClient, given: Object, path: str
) -> None:
    with pytest.raises(RenderError) as caught:
        await render(client, **given)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"kind": "Pod"}, "job_manifest.kind"),
        ({"apiVersion": "v1"}, "job_manifest.apiVersion"),
        ({"metadata": ["a"]}, "job_manifest.metadata"),
        ({"spec": {"template": {"metadata": "a", "spec": {"containers": [{}]}}}}, "metadata"),
    ],
)
async def test_a_manifest_of_another_kind_is_refused_with_its_path(
    client: PrefectClient, change: Object, path: str
) -> None:
    base = stock_template()
    base["job_configuration"]["job_manifest"].update(change)
    with pytest.raises(RenderError) as caught:
        await render(client, base=base)
    assert path in str(caught.value)
