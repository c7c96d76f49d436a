"""What a binding puts over every Job wins over template, deployment and run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient

from tests.support.prefect import Object
from tests.support.subjects import IDENTITY, URL, env, subject, with_container
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.context import Binding
from workpool_operator.errors import PatchRejected, RenderError
from workpool_operator.jobs import ineffective_variables
from workpool_operator.jobs.overlay import JobOverlay
from workpool_operator.jobs.provenance import trace_values
from workpool_operator.jobs.render import render_job, render_unpatched

POD = "/spec/template/spec"
HOSTNAME: Object = {"op": "add", "path": f"{POD}/hostname", "value": "flows"}


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    """A client without a server: rendering without blocks and variables sends no request."""
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        yield client


def overlay(**jobs: Any) -> JobOverlay:
    """Return the overlay of a binding with these fields of spec.jobs."""
    server = {"url": "http://prefect/api"}
    spec = Spec.model_validate({"workPool": {"name": "p"}, "server": server, "jobs": jobs})
    return Binding("data", "etl", lambda: spec, lambda: 1, {}).overlay()


async def rendered(client: PrefectClient, over: JobOverlay, **given: Any) -> Object:
    of = replace(subject(environment=(URL,), **given), overlay=over)
    return (await render_job(of, IDENTITY, client=client)).manifest


def test_an_overlay_has_the_fields_as_kubernetes_and_rfc_6902_have_them() -> None:
    node = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    move = {"op": "move", "path": "/a", "from": "/b"}
    null = {"op": "test", "path": "/a", "value": None}
    found = overlay(env=[node], labels={"team": "a"}, patches=[move, null])
    assert (found.env, found.patches) == ((node,), (move, null))
    assert (found.labels, found.annotations) == ({"team": "a"}, {})
    assert overlay() == JobOverlay()


async def test_variables_of_the_binding_win_and_come_before_those_that_can_refer_to_them(
    client: PrefectClient,
) -> None:
    fixed = {"name": "FIXED", "value": "template"}
    env_vars = [{"name": name, "value": "binding"} for name in ("A", "FIXED", "UNSET")]
    manifest = await rendered(
        client,
        overlay(env=env_vars),
        base=with_container(env=[fixed]),
        deployment={"env": {"A": "deployment", "B": "$(A)"}},
        run={"env": {"UNSET": None, "FIXED": "run"}},
    )
    found = env(manifest)
    assert {found[name] for name in ("A", "FIXED", "UNSET")} == {"binding"}
    names = list(found)
    assert names.index("PREFECT_API_URL") < names.index("A") < names.index("B")


async def test_labels_and_annotations_of_the_binding_are_on_the_job_and_its_pods(
    client: PrefectClient,
) -> None:
    both = {"team": "data", "example.com/cost": "42"}
    manifest = await rendered(
        client, overlay(labels=both, annotations=both), run={"labels": {"team": "run", "own": "x"}}
    )
    for metadata in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert metadata["labels"] | both == metadata["labels"]
        assert metadata["annotations"] | both == metadata["annotations"]
        assert metadata["labels"]["own"] == "x"


async def test_a_patch_that_does_not_fit_the_jobs_of_one_run_crashes_that_run_with_its_path(
    client: PrefectClient,
) -> None:
    """The dry run of the binding finds those that fit no Job."""
    over = overlay(patches=[{"op": "test", "path": f"{POD}/containers/0/image", "value": "a:1"}])
    await rendered(client, over, run={"image": "a:1"})
    with pytest.raises(RenderError, match=r"^spec\.jobs\.patches\[0\]: test .*/image: the Job has"):
        await rendered(client, over, run={"image": "b:1"})


async def test_an_invalid_value_of_a_patch_is_reported_with_the_patch(
    client: PrefectClient,
) -> None:
    invalid = {"op": "add", "path": f"{POD}/hostname", "value": 5}
    with pytest.raises(RenderError) as raised:
        await rendered(client, overlay(patches=[HOSTNAME, invalid]))
    text = "expected a string, got 5; the value comes from spec.jobs.patches[1] of the binding"
    assert text in str(raised.value)


async def test_the_source_of_each_value_of_the_binding_is_named(client: PrefectClient) -> None:
    sidecar = {"name": "mesh", "image": "mesh:1"}
    over = overlay(
        env=[{"name": "STAGE", "value": "prod"}],
        labels={"team": "data"},
        annotations={"cost": "42"},
        patches=[HOSTNAME, {"op": "add", "path": f"{POD}/containers/0", "value": sidecar}],
    )
    base = with_container(name="prefect-job")
    of = replace(subject(base=base, run={"image": "a:1"}), overlay=over)
    manifest = (await render_job(of, IDENTITY, client=client)).manifest
    unpatched = await render_unpatched(of, IDENTITY, client=client)
    found = trace_values(manifest, of, unpatched=unpatched)
    pod = ("spec", "template", "spec")
    containers = (*pod, "containers")
    index = [
        entry["name"] for entry in manifest["spec"]["template"]["spec"]["containers"][1]["env"]
    ]
    stage = (*containers, 1, "env", index.index("STAGE"), "value")
    assert found[(*pod, "hostname")] == "binding: jobs.patches[0]"
    assert found[(*containers, 0, "image")] == "binding: jobs.patches[1]"
    assert found[(*containers, 1, "image")] == "run: image"
    assert found[stage] == "binding: jobs.env"
    assert found["metadata", "labels", "team"] == "binding: jobs.labels"
    assert found[(*pod[:2], "metadata", "annotations", "cost")] == "binding: jobs.annotations"


async def test_a_patch_cannot_rename_the_job(client: PrefectClient) -> None:
    over = overlay(patches=[{"op": "replace", "path": "/metadata/name", "value": "mine"}])
    with pytest.raises(RenderError, match="the operator finds the run's Job by its name"):
        await rendered(client, over)
    assert issubclass(PatchRejected, RenderError)


def test_values_of_a_run_that_the_binding_overrides_are_reported() -> None:
    over = overlay(env=[{"name": "A", "value": "1"}], labels={"team": "data"})
    run = {"env": {"A": "2", "B": "3"}, "labels": {"team": "data", "x": "y"}}
    found = ineffective_variables.ineffective(replace(subject(run=run), overlay=over))
    assert found == ["Job variable env.A has no effect: spec.jobs.env of the binding sets it."]
