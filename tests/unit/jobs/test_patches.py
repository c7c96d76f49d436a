"""A binding's patches change every Job, except for what the operator relies on."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from workpool_operator.errors import PatchRejected
from workpool_operator.jobs import patches

Object = dict[str, Any]
POD = "/spec/template/spec"
OWN = {"workpool-operator.dev/run": "r"}
SECRET = "a-secret-4711"


def job() -> Object:
    flow = {
        "name": "prefect-job",
        "image": "flow:1",
        "env": [
            {"name": "PREFECT_API_URL", "value": "http://prefect/api"},
            {"name": "TOKEN", "value": SECRET},
        ],
    }
    metadata = {"labels": {**OWN, "team": "a"}, "annotations": {"prefect.io/flow-run-id": "r"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "etl-1", "namespace": "data", **copy.deepcopy(metadata)},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": metadata,
                "spec": {"containers": [flow], "volumes": [{"name": "tmp", "emptyDir": {}}]},
            },
        },
    }


def operation(op: str, path: str, **rest: Any) -> Object:
    return {"op": op, "path": path, **rest}


SIDECAR = {"name": "mesh", "image": "mesh:1"}


@pytest.mark.parametrize(
    ("operations", "at", "value"),
    [
        ([operation("add", f"{POD}/priorityClassName", value="low")], "priorityClassName", "low"),
        ([operation("add", f"{POD}/initContainers", value=[SIDECAR])], "initContainers", [SIDECAR]),
        ([operation("remove", f"{POD}/volumes")], "volumes", None),
        (
            [
                operation("test", f"{POD}/containers/0/image", value="flow:1"),
                operation("replace", f"{POD}/containers/0/image", value="mirror/flow:1"),
                operation("copy", f"{POD}/hostname", **{"from": f"{POD}/containers/0/image"}),
            ],
            "hostname",
            "mirror/flow:1",
        ),
    ],
)
def test_operations_are_applied_in_their_order_to_a_copy(operations, at, value):
    manifest, given = job(), copy.deepcopy(operations)
    patched = patches.apply(manifest, operations)
    assert patched["spec"]["template"]["spec"].get(at) == value
    assert (manifest, operations) == (job(), given)


def test_two_jobs_share_no_value_of_a_patch():
    operations = [operation("add", f"{POD}/tolerations", value=[{"key": "gpu"}])]
    first, second = (patches.apply(job(), operations) for _ in range(2))
    first["spec"]["template"]["spec"]["tolerations"].append({"key": "other"})
    assert second["spec"]["template"]["spec"]["tolerations"] == [{"key": "gpu"}]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            operation("replace", f"{POD}/containers/1/image", value="x"),
            f"replace {POD}/containers/1/image: the Job has no {POD}/containers/1",
        ),
        (
            operation("remove", f"{POD}/nodeSelector"),
            f"remove {POD}/nodeSelector: the Job has no {POD}/nodeSelector",
        ),
        (
            operation("add", f"{POD}/securityContext/runAsUser", value=1),
            f"the Job has no {POD}/securityContext",
        ),
        (operation("add", f"{POD}/volumes/7", value={}), f"the Job has no {POD}/volumes/7"),
        (
            operation("move", f"{POD}/hostname", **{"from": f"{POD}/nowhere"}),
            f"the Job has no {POD}/nowhere",
        ),
        (
            operation("test", f"{POD}/containers/0/env/1/value", value="x"),
            "the Job has another value there",
        ),
        (operation("add", f"{POD}/hostname"), "it requires value"),
        (operation("copy", f"{POD}/hostname"), "it requires from"),
    ],
)
def test_a_patch_that_cannot_be_applied_names_the_place_and_never_a_value(given, why):
    with pytest.raises(PatchRejected) as raised:
        patches.apply(job(), [operation("add", f"{POD}/hostname", value="a"), given])
    assert str(raised.value).startswith(f"spec.jobs.patches[1]: {given['op']} {given['path']}: ")
    assert why in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (operation("replace", "/metadata/name", value="other"), "metadata.name"),
        (operation("replace", "/metadata/namespace", value="other"), "metadata.namespace"),
        (operation("replace", "/kind", value="CronJob"), "kind"),
        (operation("remove", "/metadata/labels/workpool-operator.dev~1run"), "metadata.labels["),
        (
            operation("replace", "/spec/template/metadata/labels", value={}),
            "spec.template.metadata",
        ),
        (operation("remove", "/spec/template/metadata"), "spec.template.metadata."),
        (
            operation("add", "/metadata/labels/workpool-operator.dev~1new", value="x"),
            "metadata.labels[workpool-operator.dev/new]",
        ),
        (
            operation("remove", "/metadata/annotations/prefect.io~1flow-run-id"),
            "metadata.annotations[prefect.io/flow-run-id]",
        ),
        (operation("replace", "/spec/backoffLimit", value=3), "spec.backoffLimit"),
        (operation("add", "/spec/parallelism", value=2), "spec.parallelism"),
        (operation("add", "/spec/completions", value=2), "spec.completions"),
        (
            operation("add", "/spec/ttlSecondsAfterFinished", value=1),
            "set spec.jobs.ttlSecondsAfterFinished",
        ),
        (operation("replace", f"{POD}/containers/0/name", value="x"), "which container runs"),
        (operation("remove", f"{POD}/containers"), "which container runs the flow"),
        (operation("replace", "/spec", value="x"), "spec."),
        (
            operation("replace", f"{POD}/containers/0/env/0/value", value="http://other/api"),
            "variable PREFECT_API_URL of the flow's container",
        ),
        (operation("remove", f"{POD}/containers/0/env"), "variable PREFECT_API_URL"),
    ],
)
def test_a_patch_that_changes_what_the_operator_relies_on_is_rejected(given, kept):
    with pytest.raises(PatchRejected) as raised:
        patches.apply(job(), [given])
    text = f"spec.jobs.patches[0]: {given['op']} {given['path']} changes "
    assert str(raised.value).startswith(text)
    assert kept in str(raised.value)


def test_a_container_may_be_added_before_the_flow_container_if_that_has_its_usual_name():
    patch = operation("add", f"{POD}/containers/0", value=SIDECAR)
    assert patches.apply(job(), [patch])["spec"]["template"]["spec"]["containers"][0] == SIDECAR
    unnamed = job()
    unnamed["spec"]["template"]["spec"]["containers"][0]["name"] = "flow"
    with pytest.raises(PatchRejected, match="Add other containers after it"):
        patches.apply(unnamed, [patch])


def test_a_patch_behind_a_path_is_the_last_one_that_set_it_or_a_part_around_it():
    operations = [
        operation("add", f"{POD}/volumes/-", value={"name": "data"}),
        operation("add", f"{POD}/hostname", value="a"),
        operation("replace", f"{POD}/hostname", value="b"),
        operation("remove", f"{POD}/dnsPolicy"),
    ]
    pod = ("spec", "template", "spec")
    assert patches.setter((*pod, "hostname"), operations) == "spec.jobs.patches[2]"
    assert patches.setter((*pod, "volumes", 3, "name"), operations) == "spec.jobs.patches[0]"
    assert patches.setter((*pod, "volumes"), operations) == ""
    assert patches.setter((*pod, "dnsPolicy"), operations) == ""


def test_problems_of_operations_are_found_without_a_job():
    operations = [operation("add", "/a"), operation("move", "/a"), operation("remove", "/a"), "x"]
    found = [((0, "value"), "is required for add"), ((1, "from"), "is required for move")]
    assert list(patches.problems(operations)) == found


# Sources


def sources(node: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], str]:
    """Return the text of each path as its source."""
    items: Any = node.items() if isinstance(node, dict) else enumerate(node)
    found: dict[tuple[str | int, ...], str] = {}
    for key, item in items:
        inner = isinstance(item, dict | list) and item
        found |= sources(item, (*path, key)) if inner else {(*path, key): f"{(*path, key)}"}
    return found


def test_each_value_keeps_its_source_when_items_move_and_a_patch_is_the_source_of_its_own():
    manifest = {"list": [{"a": 1}, {"b": {}}], "kept": "x", "moved": {"c": 1}, "left": {"d": 1}}
    operations = [
        operation("add", "/list/0", value={"new": [1, {}]}),
        operation("replace", "/list/1/a", value=2),
        operation("move", "/there", **{"from": "/moved"}),
        operation("copy", "/twice", **{"from": "/kept"}),
        operation("test", "/kept", value="x"),
        operation("add", "/list/2/b/e", value=1),
        operation("remove", "/left/d"),
    ]
    assert patches.trace(manifest, sources(manifest), operations, by="patch") == {
        ("list", 0, "new", 0): "patch[0]",
        ("list", 0, "new", 1): "patch[0]",
        ("list", 1, "a"): "patch[1]",
        ("list", 2, "b", "e"): "patch[5]",
        ("kept",): "('kept',)",
        ("left",): "patch",
        ("there", "c"): "patch[2]",
        ("twice",): "patch[3]",
    }
    only = {"list": [1, {"b": {}}]}
    moved = patches.trace(only, sources(only), [operation("remove", "/list/0")], by="patch")
    assert moved == {("list", 0, "b"): "('list', 1, 'b')"}
