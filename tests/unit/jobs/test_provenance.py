"""The source of each value of a manifest."""

from __future__ import annotations

import copy
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient

from tests.support.prefect import stock_template
from workpool_operator.cli.redacting_client import RedactingClient
from workpool_operator.cli.redaction import Redaction
from workpool_operator.jobs.field_errors import get_path, parse_path
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.provenance import trace_values
from workpool_operator.jobs.render import render_manifest

ZERO = UUID(int=0)
IDENTITY = Identity(ZERO, ZERO, ZERO, "data/etl", "b" * 32, "http://x/api", "data")
POD = "spec.template.spec"
CONTAINER = f"{POD}.containers[0]"


def subject(template: Any, *, run: Any = None, deployment: Any = None) -> RenderInput:
    flow = {"id": str(ZERO), "name": "flow"}
    return RenderInput(
        run={**flow, "flow_id": str(ZERO), "name": "run", "job_variables": run or {}},
        flow=flow,
        deployment={**flow, "flow_id": str(ZERO), "job_variables": deployment or {}},
        pool={"id": str(ZERO), "name": "p", "type": "kubernetes", "base_job_template": template},
        worker_name="w",
        environment=({"name": "PREFECT_API_URL", "value": "http://x/api"},),
    )


async def trace(template: Any, **sources: Any) -> _Texts:
    """Return the sources by path, after checking that every value has one."""
    of = subject(copy.deepcopy(template), **sources)
    manifest = await render_manifest(
        of, IDENTITY, client=cast("PrefectClient", RedactingClient(None, Redaction()))
    )
    found = trace_values(manifest, of)
    for path in found:
        assert not (value := get_path(manifest, path)) or not isinstance(value, dict | list), path
    return _Texts(manifest, found)


class _Texts(dict[str, str]):
    def __init__(self, manifest: Any, found: Any) -> None:
        self.manifest = manifest
        self._found = found

    def __missing__(self, path: str) -> str:
        return str(self._found[parse_path(path)])

    def env(self, name: str, *, of: str = CONTAINER) -> str:
        entries = get_path(self.manifest, parse_path(f"{of}.env"))
        index = next(i for i, entry in enumerate(entries) if entry["name"] == name)
        return self[f"{of}.env[{index}].name"]


async def test_the_run_wins_over_the_deployment_and_that_over_the_pool():
    found = await trace(
        stock_template(),
        run={"image": "a:1"},
        deployment={"image": "b:1", "service_account_name": "x"},
    )
    assert found[f"{CONTAINER}.image"] == "run: image"
    assert found[f"{POD}.serviceAccountName"] == "deployment: service_account_name"
    assert found[f"{CONTAINER}.imagePullPolicy"] == "pool default: image_pull_policy"
    assert found["kind"] == "template"
    assert found["spec.parallelism"] == "template"


async def test_each_variable_of_the_environment_has_its_own_source():
    template = stock_template()
    template["variables"]["properties"]["env"]["default"] = {"POOL": "1", "BOTH": "1"}
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["env"] = [{"name": "FIXED", "value": "1"}]
    found = await trace(
        template, run={"env": {"R": "1", "BOTH": "2"}}, deployment={"env": {"D": "1", "R": "0"}}
    )
    assert found.env("POOL") == "pool default: env"
    assert found.env("BOTH") == found.env("R") == "run: env"
    assert found.env("D") == "deployment: env"
    assert found.env("PREFECT_API_URL") == "binding"
    assert found.env("PREFECT__FLOW_NAME") == "Prefect"
    assert found.env("PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR") == "operator"


async def test_the_flows_container_may_be_listed_behind_another():
    template = stock_template()
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"].insert(0, {"name": "agent", "env": [{"name": "A", "value": "1"}]})
    found = await trace(template, run={"env": {"R": "1"}, "image": "a:1"})
    assert found[f"{POD}.containers[0].env[0].value"] == "template"
    flow = f"{POD}.containers[1]"
    assert found[f"{flow}.image"] == "run: image"
    assert found[f"{flow}.args[0]"] == "Prefect: its default command"
    assert found.env("R", of=flow) == "run: env"


async def test_dotted_keys_and_lists_are_environments_too():
    found = await trace(stock_template(), run={"env.R": "1"}, deployment={"env": {"D": "1"}})
    assert found.env("R") == "run: env"
    assert found.env("D") == "deployment: env"
    entries = [{"name": "L", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    template = stock_template()
    template["variables"]["properties"]["env"] = {}
    found = await trace(template, deployment={"env": entries})
    assert found.env("L") == "deployment: env"


async def test_labels_are_distinguished_by_their_source():
    template = stock_template()
    manifest = template["job_configuration"]["job_manifest"]
    manifest["metadata"]["labels"] = {"fixed": "1"}
    template["job_configuration"]["labels"] = {"from-template": "1"}
    found = await trace(template)
    assert found['metadata.labels["fixed"]'] == "template"
    assert found['metadata.labels["from-template"]'] == "template"
    assert found['metadata.labels["prefect.io/flow-name"]'] == "Prefect"
    assert found['metadata.labels["workpool-operator.dev/binding"]'] == "operator"
    found = await trace(stock_template(), deployment={"labels": {"team": "x"}})
    assert found["metadata.labels.team"] == "deployment: labels"


async def test_an_item_without_a_value_does_not_shift_the_sources_of_a_list():
    template = stock_template(
        tolerations=["{{ no_such }}", {"key": "fixed"}, {"key": "{{ image }}"}]
    )
    found = await trace(template, deployment={"image": "x"})
    assert found[f"{POD}.tolerations[0].key"] == "template"
    assert found[f"{POD}.tolerations[1].key"] == "deployment: image"


async def test_an_item_of_nulls_does_not_shift_the_sources_of_a_list():
    template = stock_template(imagePullSecrets=[{"name": "{{ pull }}"}, {"name": "fixed"}])
    found = await trace(template, deployment={"pull": None})
    assert found[f"{POD}.imagePullSecrets[0].name"] == "template"


async def test_labels_that_run_and_deployment_have_in_prefect_are_theirs():
    of = subject(stock_template())
    assert of.deployment is not None
    of.run["labels"] = {"team": "a"}  # type: ignore[index]
    of.deployment["labels"] = {"tier": "b", "team": "c"}  # type: ignore[index]
    manifest = await render_manifest(
        of, IDENTITY, client=cast("PrefectClient", RedactingClient(None, Redaction()))
    )
    found = trace_values(manifest, of)
    assert found[("metadata", "labels", "team")] == "run: its labels"
    assert found[("metadata", "labels", "tier")] == "deployment: its labels"


async def test_an_unset_command_within_a_text_is_prefects():
    template = stock_template()
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["args"] = ["{{ command }}; true"]
    found = await trace(template)
    assert found[f"{CONTAINER}.args[0]"] == "template + Prefect: its default command"


async def test_items_that_join_a_list_keep_their_source():
    template = stock_template(
        volumes=[{"name": "home", "emptyDir": {}}, "{{ volumes }}", {"name": "last"}]
    )
    mine = [{"name": "home", "configMap": {"name": "x"}}, {"name": "mine", "emptyDir": {}}]
    found = await trace(template, deployment={"volumes": mine})
    given = [volume["name"] for volume in get_path(found.manifest, parse_path(f"{POD}.volumes"))]
    assert given == ["home", "mine", "last"]
    assert found[f"{POD}.volumes[0].configMap.name"] == "deployment: volumes"
    assert found[f"{POD}.volumes[1].name"] == "deployment: volumes"
    assert found[f"{POD}.volumes[2].name"] == "template"


@pytest.mark.parametrize(
    ("args", "origin"),
    [
        ("python -m flow", "template"),
        (["python", "-m", "{{ image }}"], "template"),
        ("{{ command }}", "deployment: command"),
    ],
)
async def test_a_command_line_that_is_split_keeps_its_source(args, origin):
    template = stock_template()
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["args"] = args
    found = await trace(template, deployment={"command": "python -m flow"})
    assert found[f"{CONTAINER}.args[1]"] == origin


async def test_a_text_with_placeholders_names_all_of_its_sources():
    template = stock_template(nodeName="a-{{ image }}-{{ namespace }}-{{ $HOME }}")
    found = await trace(template, run={"image": "x"})
    assert found[f"{POD}.nodeName"] == (
        "template + template: {{ $HOME }} + run: image + pool default: namespace"
    )


async def test_a_value_within_a_variables_value_has_its_source():
    template = stock_template(affinity="{{ affinity }}")
    affinity = {"nodeAffinity": {"x": [{"y": 1}]}}
    found = await trace(template, deployment={"affinity": affinity})
    assert found[f"{POD}.affinity.nodeAffinity.x[0].y"] == "deployment: affinity"


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("metadata.name", "operator: the run's name and claim"),
        ("metadata.namespace", "binding"),
        (f"{CONTAINER}.args[0]", "Prefect: its default command"),
        ('metadata.annotations["prefect.io/flow-run-id"]', "operator"),
    ],
)
async def test_what_rendering_adds_is_recognised_by_its_path(path, origin):
    assert (await trace(stock_template()))[path] == origin
