"""Errors of a Job's manifest: all at once, each with path, value and what is expected."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import manifests
from workpool_operator.jobs import validation
from workpool_operator.jobs.field_errors import (
    MISSING,
    FieldError,
    format_path,
    get_path,
    parse_path,
)
from workpool_operator.jobs.validation import find_errors, unknown_fields

Object = dict[str, Any]
CONTAINER = "spec.template.spec.containers[0]"
FIELDS = ["spec", "template", "containers", "env", "name", "resources", "limits", "requests", "x"]
JOB: Object = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "a"},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "prefect-job", "image": "prefecthq/prefect:3-latest"}],
            }
        },
    },
}


def job(path: str, value: Any) -> Object:
    """Return a valid Job with this value at the path."""
    changed = copy.deepcopy(JOB)
    manifests.put(changed, path, value)
    return changed


def error_paths(manifest: Any) -> list[str]:
    return [error.path_text.removeprefix("job_manifest.") for error in find_errors(manifest)]


def test_a_valid_job_has_no_errors() -> None:
    assert find_errors(JOB) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("apiVersion", "v1", "'batch/v1'"),
        ("kind", "Pod", "'Job'"),
        ("spec", "text", "a mapping"),
        ("spec.backoffLimit", "3", "a 32-bit integer"),
        ("spec.backoffLimit", True, "a 32-bit integer"),
        ("spec.backoffLimit", 1.0, "a 32-bit integer"),
        ("spec.backoffLimit", 2**31, "a 32-bit integer"),
        ("spec.backoffLimit", -1, "0 or more"),
        ("spec.activeDeadlineSeconds", 2**63, "a 64-bit integer"),
        ("spec.suspend", "true", "true or false"),
        ("spec.template.spec.restartPolicy", "OnFailure", "'Never'"),
        ("spec.template.spec.containers", [], "a list with the flow's container"),
        ("spec.template.spec.containers", {}, "a list"),
        ("spec.template.spec.nodeSelector", ["a"], "a mapping"),
        ("spec.template.spec.nodeSelector.pool", 5, "a string"),
        (f"{CONTAINER}.image", "Bad Image", "an image reference"),
        (f"{CONTAINER}.image", 5, "a string"),
        (f"{CONTAINER}.name", "Prefect_Job", "a name of at most 63 lower case letters"),
        (f"{CONTAINER}.args", "sh", "a list"),
        (f"{CONTAINER}.resources", {"limits": {"cpu": "lots"}}, "a quantity"),
        (f"{CONTAINER}.resources", {"requests": {"cpu": "-1"}}, "0 or more"),
        (f"{CONTAINER}.env", [{"name": "A=B", "value": ""}], "printable ASCII"),
        (f"{CONTAINER}.env", [{"value": ""}], "printable ASCII"),
        ("spec.template.spec.volumes", [{"emptyDir": {}}], "a name of at most 63"),
        ("spec.template.spec.volumes", [{"name": "a", "emptyDir": {"sizeLimit": "big"}}], "a quan"),
    ],
)
def test_an_error_has_its_path_and_what_is_expected(path: str, value: Any, expected: str) -> None:
    [error] = find_errors(job(path, value))
    assert error.path_text.startswith(f"job_manifest.{path}")
    assert expected in str(error)


LONG = "x" * 131_072
MOUNT = {"name": "data", "mountPath": "/data"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (f"{CONTAINER}.args", ["sh", LONG], "argument list too long"),
        (f"{CONTAINER}.command", [LONG], "131,072 bytes"),
        (f"{CONTAINER}.env", [{"name": "A", "value": LONG}], "got 131,075 bytes"),
        (f"{CONTAINER}.env", [{"name": "A", "value": LONG}], "expected A=VALUE of at"),
        ("metadata.annotations", {"a": "x" * 262_144}, "at most 262,144 bytes"),
        ("spec.template.metadata", {"annotations": {"a": "x" * 262_144}}, "262,145 bytes"),
        ("spec.activeDeadlineSeconds", 0, "at least 1 s"),
        ("spec.template.spec.activeDeadlineSeconds", 0, "at least 1 s"),
        ("spec.template.spec.serviceAccountName", "Foo_", "at most 253 lower case"),
        ("spec.template.spec.nodeSelector", {"a b": "c"}, "a label key"),
        ("spec.template.spec.nodeSelector", {"a": "b c"}, "a label value"),
        (f"{CONTAINER}.ports", [{"containerPort": 99999}], "a port number from 1 to 65535"),
        (
            f"{CONTAINER}.ports",
            [{"containerPort": 80, "hostPort": 0}],
            "a port number from 1 to 65535",
        ),
        (f"{CONTAINER}.volumeMounts", [MOUNT], "the name of one of the pod's volumes"),
        (f"{CONTAINER}.env", [{"name": "A", "valueFrom": {}}], "exactly one of"),
        (
            f"{CONTAINER}.env",
            [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}],
            "a key of the Secret",
        ),
        (
            f"{CONTAINER}.env",
            [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}],
            "no value, because valueFrom is set",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_references_names_and_limits_are_checked(path: str, value: Any, expected: str) -> None:
    [error] = find_errors(job(path, value))
    assert error.path_text.startswith(f"job_manifest.{path}")
    assert expected in str(error)
    assert len(str(error)) < 400


def test_a_value_exactly_at_its_limit_is_valid() -> None:
    entry = {"name": "A", "value": "x" * (131_072 - 3)}
    for path, value in (
        (f"{CONTAINER}.env", [entry]),
        (f"{CONTAINER}.args", ["x" * 131_071]),
        ("metadata.annotations", {"a": "x" * 262_143}),
    ):
        assert find_errors(job(path, value)) == []


def test_an_object_too_large_for_etcd_is_an_error_with_its_size() -> None:
    env = [{"name": f"V{number}", "value": "x" * 100_000} for number in range(16)]
    [error] = find_errors(job(f"{CONTAINER}.env", env))
    assert error.path_text == "job_manifest"
    assert "at most 1,572,864 bytes" in str(error)
    assert "got 1,600," in str(error)


def test_mounts_need_a_volume_and_a_path_of_their_own() -> None:
    mounted = job(f"{CONTAINER}.volumeMounts", [MOUNT, MOUNT])
    mounted["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    [error] = find_errors(mounted)
    assert error.path_text.endswith("volumeMounts[1].mountPath")
    assert "a path that no other mount uses" in str(error)
    for unknown in ("{{ volumes }}", ["{{ more }}"], [{"name": "{{ volume }}"}]):
        mounted = job(f"{CONTAINER}.volumeMounts", [MOUNT])
        mounted["spec"]["template"]["spec"]["volumes"] = unknown
        found = find_errors(mounted, is_opaque=lambda value: "{{" in str(value)[:2])
        assert [str(error) for error in found] == []


def test_all_missing_fields_are_reported_at_once() -> None:
    assert error_paths({}) == ["apiVersion", "kind", "spec"]
    assert error_paths(job("spec.template.spec", {})) == [
        "spec.template.spec.containers",
        "spec.template.spec.restartPolicy",
    ]
    [error] = find_errors(job("spec.template", None))
    assert (error.value, error.path_text) == (MISSING, "job_manifest.spec.template")


def test_a_request_above_its_limit_is_an_error_with_both_values() -> None:
    resources = {"limits": {"memory": "1Gi", "cpu": 2}, "requests": {"memory": "2Gi", "cpu": "2"}}
    [error] = find_errors(job(f"{CONTAINER}.resources", resources))
    assert error.path_text.endswith("resources.requests.memory")
    assert "'2Gi'" in str(error)
    assert "'1Gi'" in str(error)


def test_names_of_containers_and_volumes_are_unique() -> None:
    twice = job("spec.template.spec.initContainers", [{"name": "prefect-job", "image": "a"}])
    assert error_paths(twice) == ["spec.template.spec.initContainers[0].name"]
    volumes = [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]
    assert error_paths(job("spec.template.spec.volumes", volumes)) == [
        "spec.template.spec.volumes[1].name"
    ]


def test_null_counts_as_missing_and_is_valid() -> None:
    for path in ("spec.backoffLimit", "metadata.labels", f"{CONTAINER}.env"):
        assert find_errors(job(path, None)) == []


def test_an_unknown_field_is_not_an_error() -> None:
    misplaced = job("spec.template.spec.parallelism", 1)
    assert find_errors(misplaced) == []
    assert [format_path(path) for path in unknown_fields(misplaced)] == [
        "job_manifest.spec.template.spec.parallelism"
    ]


def test_opaque_values_are_not_reported() -> None:
    manifest = job(f"{CONTAINER}.image", "{{ image }}")
    manifest["spec"]["backoffLimit"] = "{{ backoff }}"
    assert len(find_errors(manifest)) == 2
    assert find_errors(manifest, is_opaque=lambda value: "{{" in str(value)[:2]) == []


def test_the_value_of_an_environment_variable_is_never_shown() -> None:
    [error] = find_errors(job(f"{CONTAINER}.env", [{"name": "TOKEN", "value": 271828}]))
    assert error.path_text.endswith("env[0].value")
    assert "271828" not in str(error)
    assert "271828" not in str(FieldError(("image",), "271828", "a string", is_secret=True))


def test_a_long_value_is_cut() -> None:
    assert len(str(FieldError(("image",), "x" * 10_000, "a string"))) < 200


def test_a_job_is_validated_in_less_than_half_a_millisecond() -> None:
    env = [{"name": f"V{number}", "value": "x"} for number in range(40)]
    manifest = job(f"{CONTAINER}.env", env)
    find_errors(manifest)
    begun = time.process_time()
    for _ in range(200):
        find_errors(manifest)
    assert (time.process_time() - begun) / 200 < 0.0005 * 3  # a margin for a loaded machine


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner),
        max_leaves=30,
    )
)
def test_anything_instead_of_a_manifest_gives_errors(manifest: Any) -> None:
    for error in find_errors(manifest):
        assert str(error)
        found = get_path({"job_manifest": manifest}, error.path)
        assert found is (None if error.value is MISSING else error.value)


def test_any_value_in_any_field_is_valid_or_an_error() -> None:
    for manifest in manifests.every():
        assert all(str(error) for error in find_errors(manifest))


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1", 1), ("1Gi", 2**30), (".5", 0.5), ("5.", 5), ("+1", 1), ("500m", 0.5), (" 1 ", 1)]
    + [("1e3", 1000), ("1E3", 1000), ("1E", 10**18), ("1E+3", 1000), (2, 2), (1.5, 1.5)]
    + [("-1", -1), ("0", 0), ("100k", 100_000), ("1Ki", 1024)],
)
def test_quantities_that_kubernetes_accepts_are_parsed(text: Any, amount: float) -> None:
    assert validation.parse_quantity(text) == pytest.approx(amount)


@pytest.mark.parametrize(
    "text",
    ["", "lots", "1 Gi", "1GB", "1K", "1e", "1.2.3", "--1", True, [], float("nan")]
    + [float("inf"), "٣", "1Gi\n2"]
    + ["Gi", "m", ".", "+", "-k", "e3"],  # these Kubernetes takes for 0
)
def test_quantities_that_kubernetes_refuses_are_not_parsed(text: Any) -> None:
    assert validation.parse_quantity(text) is None


@pytest.mark.parametrize(
    "image",
    ["busybox", "prefecthq/prefect:3-latest", "localhost:5000/a/b:1", "REGISTRY.example/a"]
    + ["a@sha256:" + "0" * 64, "a:1@sha256:" + "0" * 64, "[::1]:5000/a", "a/b_c__d---e.f:T_.-1"]
    + ["a:" + "t" * 128, "a" * 255],
)
def test_images_that_a_registry_can_have_are_valid(image: str) -> None:
    assert validation.is_image(image)


@pytest.mark.parametrize(
    "image",
    ["", " ", "Bad Image", " busybox", "busybox ", "Prefect/Prefect", "a:", "a:-tag", "a/", "/a"]
    + ["a//b", "a:tag:tag", "a@sha256:short", "https://a/b", "a:" + "t" * 129, "a" * 256, "a\n"]
    + ["0123456789abcdef" * 4, "None", "ünicode", "{{ image }}"],
)
def test_images_that_no_registry_can_have_are_invalid(image: str) -> None:
    assert not validation.is_image(image)


def test_the_type_of_a_job_includes_its_deepest_fields() -> None:
    container = at_shape(validation.job_type(), "spec", "template", "spec", "containers").items
    assert container is not None
    assert container.fields["resources"].fields["limits"].items == validation.FieldType("quantity")
    assert container.fields["livenessProbe"].fields["httpGet"].fields["port"].kind == "port"
    assert container.fields["livenessProbe"].fields["grpc"].fields["port"].kind == "integer"


def at_shape(shape: validation.FieldType, *path: str) -> validation.FieldType:
    for part in path:
        shape = shape.fields[part]
    return shape


@pytest.mark.parametrize(
    "text", ["a.b[0].c", 'limits["nvidia.com/gpu"]', "a[0][1]", 'metadata.labels["a.b/c"].d']
)
def test_a_formatted_path_is_parsed_to_the_same_path(text: str) -> None:
    assert format_path(parse_path(text)) == text


def test_a_path_of_the_api_server_is_parsed() -> None:
    assert parse_path("containers[0].limits[nvidia.com/gpu]") == (
        "containers",
        0,
        "limits",
        "nvidia.com/gpu",
    )
