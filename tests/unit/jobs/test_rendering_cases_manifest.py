"""The parts of a Job's manifest (docs/conformance.md, 25 to 28, 31, 43)."""

from __future__ import annotations

from typing import Any

import prefect
import pytest

from tests.corpus.case import (
    CLAIM,
    DEPLOYMENT,
    FLOW,
    POOL,
    RUN,
    Case,
    Object,
    template_with,
)
from tests.corpus.metadata import CASES as METADATA
from tests.corpus.published import SIDECAR, minimal
from tests.corpus.refusals import manifest as minimal_with
from tests.corpus.rendered import container, job, names
from workpool_operator.errors import RenderError
from workpool_operator.kube import models

VERSION = prefect.__version__
LABELS = {
    "app.kubernetes.io/managed-by": "prefect",
    "app.kubernetes.io/name": "nightly",
    "app.kubernetes.io/part-of": "prefect",
    "app.kubernetes.io/version": VERSION,
    "prefect.io/deployment-id": str(DEPLOYMENT),
    "prefect.io/deployment-name": "nightly",
    "prefect.io/deployment-updated": "2026-01-01T00-00-00-00-00",
    "prefect.io/flow-id": str(FLOW),
    "prefect.io/flow-name": "hello",
    "prefect.io/flow-run-name": "brave-lynx",
    "prefect.io/version": VERSION,
    "prefect.io/work-pool-id": str(POOL),
    "prefect.io/work-pool-name": "etl",
    "prefect.io/worker-name": "etl.data-cluster",
}
OURS = {
    models.BINDING_LABEL: "b" * 32,
    models.RUN_LABEL: str(RUN),
    models.CLAIM_LABEL: str(CLAIM),
    models.POOL_LABEL: str(POOL),
}
ENV = [
    {"name": "PREFECT_API_URL", "value": "http://prefect:4200/api"},
    {
        "name": "PREFECT_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "prefect", "key": "api-key"}},
    },
    {"name": "PREFECT__FLOW_RUN_ID", "value": str(RUN)},
    {"name": "PREFECT__WORKER_NAME", "value": "etl.data@cluster"},
    {"name": "PREFECT__FLOW_ID", "value": str(FLOW)},
    {"name": "PREFECT__FLOW_NAME", "value": "hello"},
    {"name": "PREFECT__DEPLOYMENT_ID", "value": str(DEPLOYMENT)},
    {"name": "PREFECT__DEPLOYMENT_NAME", "value": "nightly"},
    {"name": "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "value": "reschedule"},
]
CONTAINER = {
    "name": "prefect-job",
    "image": f"prefecthq/prefect:{VERSION}-python3.11",
    "imagePullPolicy": "IfNotPresent",
    "args": ["prefect", "flow-run", "execute"],
    "resources": {"limits": {}, "requests": {}},
    "env": ENV,
}


async def test_case_25_the_stock_template_without_values_gives_exactly_this_job() -> None:
    assert await job(Case("default")) == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "brave-lynx-02ecef8dc520",
            "namespace": "data",
            "labels": LABELS | OURS,
            "annotations": {
                "prefect.io/flow-run-id": str(RUN),
                models.BINDING_ANNOTATION: "data/etl",
                models.SERVER_ANNOTATION: "http://prefect:4200/api",
                models.CONTAINER_ANNOTATION: "prefect-job",
            },
        },
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "parallelism": 1,
            "completions": 1,
            "template": {
                "metadata": {
                    "labels": LABELS | OURS,
                    "annotations": {
                        "prefect.io/flow-run-id": str(RUN),
                        models.CONTAINER_ANNOTATION: "prefect-job",
                    },
                },
                "spec": {"restartPolicy": "Never", "containers": [CONTAINER]},
            },
        },
    }


async def test_case_25_a_run_without_a_deployment_has_its_flows_name_and_no_deployment() -> None:
    manifest = await job(Case("ad hoc", deployment=None))
    labels = manifest["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "hello"
    assert [key for key in labels if "deployment" in key] == []
    assert [name for name in names(manifest) if "DEPLOYMENT" in name] == []


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        (minimal_with(apiVersion=None), "apiVersion", "batch/v1"),
        (minimal_with(apiVersion="v1"), "apiVersion", "batch/v1"),
        (minimal_with(kind=None), "kind", "Job"),
        (minimal_with(kind="Pod"), "kind", "Job"),
        (minimal_with(spec=None), "spec.template.spec.containers", "list"),
        (minimal_with(spec={"template": {}}), "spec.template.spec.containers", "list"),
        (template_with(pod={"containers": []}), "spec.template.spec.containers", "list"),
        (minimal_with(spec="x"), "spec", "mapping"),
        (minimal_with(spec={"template": "x"}), "spec.template", "mapping"),
        (minimal_with(metadata="x"), "metadata", "mapping"),
        (template_with(metadata={"labels": "x"}), "metadata.labels", "mapping"),
        (template_with(pod={"parallelism": 2}), "spec.template.spec.parallelism", "1"),
        (template_with(pod={"completions": 2}), "spec.template.spec.completions", "1"),
    ],
)
async def test_case_26_a_manifest_of_another_kind_is_refused_with_its_path(
    template: Object, path: str, expected: str
) -> None:
    with pytest.raises(RenderError, match=f"expected .*{expected}") as refused:
        await job(Case("no job", template=template))
    assert refused.value.path == f"job_manifest.{path}"


async def test_case_27_labels_and_annotations_of_template_and_user_are_merged() -> None:
    (case,) = (each for each in METADATA if each.name == "hard-coded labels and annotations")
    manifest = await job(case)
    assert (
        manifest["metadata"]["labels"].items()
        >= {"app": "flows", "Team": "Data", "team": "x"}.items()
    )
    wanted = {"karpenter.sh/do-not-disrupt": "true", "a": "b"}
    assert manifest["metadata"]["annotations"].items() >= wanted.items()
    assert manifest["spec"]["template"]["metadata"]["annotations"].items() >= wanted.items()


async def test_case_27_the_users_annotation_wins_and_its_value_stays_as_it_is() -> None:
    template = template_with(metadata={"annotations": {"note": "template"}})
    value = "Any text: ü, {braces}, 'quotes' and a / slash. " + "x" * 1000
    manifest = await job(Case("note", template=template, run={"annotations": {"note": value}}))
    assert manifest["metadata"]["annotations"]["note"] == value
    assert manifest["spec"]["template"]["metadata"]["annotations"]["note"] == value


async def test_case_27_an_annotations_key_is_repaired() -> None:
    manifest = await job(Case("key", run={"annotations": {"Bad Key/-x y.": "v"}}))
    assert manifest["metadata"]["annotations"]["bad-key/x-y"] == "v"


async def test_case_27_without_annotations_the_pods_have_ours_alone() -> None:
    manifest = await job(Case("none"))
    ours = {"prefect.io/flow-run-id", models.CONTAINER_ANNOTATION}
    assert set(manifest["spec"]["template"]["metadata"]["annotations"]) == ours


async def test_case_27_labels_of_the_manifest_stay_on_the_job_alone() -> None:
    manifest = await job(
        Case("labels", template=template_with(metadata={"labels": {"app": "flows"}}))
    )
    assert manifest["metadata"]["labels"]["app"] == "flows"
    assert "app" not in manifest["spec"]["template"]["metadata"]["labels"]


async def test_case_28_a_sidecar_and_volumes_are_untouched_and_the_first_container_is_filled() -> (
    None
):
    volumes = [{"name": "scratch", "emptyDir": {}}]
    sidecar = {key: value for key, value in SIDECAR.items() if key in ("name", "image")}
    first = {"name": "prefect-job", "volumeMounts": [{"name": "scratch", "mountPath": "/x"}]}
    manifest = await job(
        Case("sidecar", template=minimal(containers=[first, sidecar], volumes=volumes))
    )
    pod = manifest["spec"]["template"]["spec"]
    assert pod["containers"][1] == sidecar
    assert pod["volumes"] == volumes
    assert container(manifest)["volumeMounts"] == first["volumeMounts"]
    assert container(manifest)["args"] == ["prefect", "flow-run", "execute"]
    assert "PREFECT__FLOW_RUN_ID" in names(manifest)


@pytest.mark.parametrize(
    ("values", "path", "expected"),
    [
        ({"image": "flows:1"}, "spec.template.spec.containers.0.image", "flows:1"),
        ({"service_account_name": "etl"}, "spec.template.spec.serviceAccountName", "etl"),
        (
            {"image_pull_policy": "Always"},
            "spec.template.spec.containers.0.imagePullPolicy",
            "Always",
        ),
        ({"finished_job_ttl": 123}, f"metadata.annotations.{models.TTL_ANNOTATION}", "123"),
        ({"labels": {"foo": "BAR"}}, "metadata.labels.foo", "BAR"),
        ({"namespace": "other"}, "metadata.namespace", "data"),
        ({"backoff_limit": 3}, "spec.backoffLimit", 3),
        ({"memory_limit": "1Gi"}, "spec.template.spec.containers.0.resources.limits.memory", "1Gi"),
    ],
)
async def test_case_31_a_variable_reaches_its_place(
    values: Object, path: str, expected: Any
) -> None:
    assert _at(await job(Case("variable", run=values)), path) == expected


async def test_case_31_an_image_of_the_manifest_is_kept() -> None:
    template = template_with(container={"image": "fixed:1"})
    assert container(await job(Case("image", template=template)))["image"] == "fixed:1"


async def test_case_43_parallelism_and_completions_of_the_pods_spec_are_the_jobs() -> None:
    spec = (await job(Case("moved")))["spec"]
    assert (spec["parallelism"], spec["completions"]) == (1, 1)
    assert not {"parallelism", "completions"} & spec["template"]["spec"].keys()


async def test_case_43_a_job_keeps_its_own() -> None:
    template = template_with(job={"parallelism": 3, "completions": 3})
    spec = (await job(Case("own", template=template)))["spec"]
    assert (spec["parallelism"], spec["completions"]) == (3, 3)


def _at(document: Any, path: str) -> Any:
    """Return the value at a dotted path; the keys of our labels contain dots, too."""
    head, _, rest = path.partition(".")
    if path in document:
        return document[path]
    found = document[int(head)] if head.isdigit() else document[head]
    return _at(found, rest) if rest else found
