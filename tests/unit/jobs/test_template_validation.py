"""Errors of a base job template that no value of a run causes, and fields that values decide."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support.manifests import put
from tests.support.prefect import stock_template
from workpool_operator.jobs.field_errors import parse_path
from workpool_operator.jobs.references import names_at, used_variables
from workpool_operator.jobs.template_validation import template_errors, template_warnings
from workpool_operator.suggestions import did_you_mean

Object = dict[str, Any]
CONTAINER = "spec.template.spec.containers[0]"


def template(**places: Any) -> Object:
    """Return the stock template with these values: `template(**{"spec.suspend": True})`."""
    base = stock_template()
    for text, value in places.items():
        put(base["job_configuration"]["job_manifest"], text, value)
    return base


def messages(base: Any) -> list[str]:
    return [str(error) for error in template_errors(base)]


def test_the_stock_template_has_no_errors_and_no_warnings() -> None:
    for base in (stock_template(), stock_template(parallelism=1, completions=1)):
        assert messages(base) == []
        assert list(template_warnings(base)) == []


@pytest.mark.parametrize(
    ("base", "path"),
    [
        (None, ""),
        ([], ""),
        ({}, "job_configuration"),
        ({"job_configuration": None}, "job_configuration"),
        ({"job_configuration": []}, "job_configuration"),
        ({"job_configuration": {}}, "job_configuration.job_manifest"),
        ({"job_configuration": {"job_manifest": []}}, "job_configuration.job_manifest"),
        ({"job_configuration": {"job_manifest": "{{ a }}"}, "variables": []}, "variables"),
        (
            {"job_configuration": {"job_manifest": "{{ a }}"}, "variables": {"properties": []}},
            "variables.properties",
        ),
        (
            {
                "job_configuration": {"job_manifest": "{{ a }}"},
                "variables": {"properties": {"a": None}},
            },
            "variables.properties.a",
        ),
    ],
)
def test_an_invalid_template_is_reported_with_its_path(base: Any, path: str) -> None:
    [error] = template_errors(base)
    assert error.path_text == path
    assert "expected a" in error.problem


def test_all_missing_fields_of_a_manifest_are_reported_at_once() -> None:
    paths = [f.path_text for f in template_errors({"job_configuration": {"job_manifest": {}}})]
    assert paths == [f"job_configuration.job_manifest.{k}" for k in ("apiVersion", "kind", "spec")]


@pytest.mark.parametrize(
    "places",
    [
        {f"{CONTAINER}.image": "Bad Image"},
        {f"{CONTAINER}.resources.limits.cpu": "lots"},
        {"spec.backoffLimit": -1},
        {"spec.template.spec.restartPolicy": "OnFailure"},
        {"kind": "Pod"},
        {f"{CONTAINER}.image": "{{ my image }}"},  # a blank, so it is not a placeholder
    ],
    ids=str,
)
def test_an_invalid_literal_value_is_an_error_of_the_template(places: Object) -> None:
    [error] = template_errors(template(**places))
    [(path, value)] = places.items()
    assert error.path_text == f"job_configuration.job_manifest.{path}"
    assert error.value == value


@pytest.mark.parametrize(
    "places",
    [
        {f"{CONTAINER}.image": "{{ image }} and more"},
        {f"{CONTAINER}.image": "{{ prefect.variables.image }}"},
        {"spec.backoffLimit": "{{ retries }}"},
        {"spec.template.spec.containers": "{{ containers }}"},
        {"spec.template.spec": "{{ pod }}"},
        {"spec.template.spec.volumes": [{"name": "a", "emptyDir": {}}, "{{ volumes }}"]},
        {f"{CONTAINER}.resources": {"requests": {"cpu": 8}, "limits": {"cpu": "{{ cpu }}"}}},
    ],
    ids=str,
)
def test_values_that_a_placeholder_decides_are_not_checked(places: Object) -> None:
    assert messages(template(**places)) == []


@pytest.mark.parametrize(
    "places",
    [
        {"metadata.labels": {"a": 1, "b!": "$@*"}},
        {"metadata.annotations": {"a": True}},
        {f"{CONTAINER}.args": "python flow.py"},
        {f"{CONTAINER}.args": ["sleep", 5]},
        {f"{CONTAINER}.env": {"A": "1"}},
        {f"{CONTAINER}.image": None},
        {"spec.template.spec.restartPolicy": None},
        {"spec.template.spec.parallelism": 1},
    ],
    ids=str,
)
def test_what_rendering_repairs_is_not_an_error(places: Object) -> None:
    assert messages(template(**places)) == []


def test_the_names_of_a_fixed_environment_are_checked() -> None:
    base = stock_template()
    base["job_configuration"]["env"] = {"A": "1", "B=C": "2"}
    [error] = template_errors(base)
    assert error.path_text == 'job_configuration.env["B=C"]'
    for key in ("env", "labels", "annotations"):
        broken = copy.deepcopy(base)
        broken["job_configuration"]["env"] = {}
        broken["job_configuration"][key] = 5
        assert [f.path_text for f in template_errors(broken)] == [f"job_configuration.{key}"]


def test_a_reference_to_a_block_without_its_name_can_never_be_resolved() -> None:
    [error] = template_errors(template(**{f"{CONTAINER}.workingDir": "{{ prefect.blocks.a }}"}))
    assert "prefect.blocks.TYPE.NAME" in str(error)
    assert messages(template(**{f"{CONTAINER}.workingDir": "{{ prefect.blocks.secret.a }}"})) == []


def test_a_placeholder_without_a_variable_is_a_warning_with_a_similar_name() -> None:
    base = template(**{f"{CONTAINER}.image": "{{ imgae }}", "spec.template.spec.nodeName": "a"})
    base["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["nodeNames"] = "a"
    image, field = (str(warning) for warning in template_warnings(base))
    assert "did you mean image?" in image
    assert "spec.template.spec.nodeNames" in field


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (f"{CONTAINER}.image", {"image"}),
        (f"{CONTAINER}.resources.limits", {"cpu_limit", "memory_limit"}),
        (f"{CONTAINER}.resources.limits.cpu", {"cpu_limit"}),
        (f"{CONTAINER}.env[3].name", {"env"}),
        ("metadata.labels.team", {"labels"}),
        ("spec.backoffLimit", set()),
        ("spec.template.spec.containers[0].name", set()),
        ("spec.template.spec.volumes[1].name", {"more"}),
        ("spec.template.spec.tolerations[2].key", {"tolerations"}),
        ("spec.template.spec.unknown", set()),
    ],
)
def test_a_field_depends_on_the_placeholders_around_within_and_before_it(
    path: str, names: set[str]
) -> None:
    base = template(
        **{
            "spec.template.spec.volumes": ["{{ more }}", {"name": "fixed"}],
            "spec.template.spec.tolerations": "{{ tolerations }}",
        }
    )
    assert names_at(base, parse_path(path)) == names


def test_an_environment_that_is_merged_has_an_effect_without_a_placeholder() -> None:
    base: Object = {"job_configuration": {"env": {"A": "1"}, "job_manifest": {"x": "{{ a.b[0] }}"}}}
    assert used_variables(base) == {"env", "a"}
    assert used_variables({}) == set()


def test_a_similar_name_is_suggested() -> None:
    assert did_you_mean("cpu_limits", ["cpu_limit", "image"]) == " (did you mean cpu_limit?)"
    assert did_you_mean("volumes", ["cpu_limit", "image"]) == ""
