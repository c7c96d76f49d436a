"""The template that a binding names for its pool: how it is read, and what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.templates import default_template
from workpool_operator.binding import pool_template
from workpool_operator.binding.pool_template import Template
from workpool_operator.jobs.configuration import default_base_job_template

SOURCE = "key 'template' of ConfigMap 'etl'"


def parse(text: str) -> Template:
    return pool_template.parse(text, source=SOURCE)


def changed(**parts: Any) -> str:
    return json.dumps({**default_base_job_template(), **parts})


def without_variable(name: str, *, but: str) -> str:
    properties = default_base_job_template()["variables"]["properties"]
    properties[but] = properties.pop(name)
    return changed(variables={"properties": properties})


def test_our_own_template_is_that_of_a_new_pool_of_our_type_and_has_no_errors() -> None:
    ours = default_base_job_template()
    assert ours == default_template()
    assert parse(json.dumps(ours)).errors == []


def test_json_and_yaml_are_read_alike_and_have_one_digest_in_any_order() -> None:
    in_json = parse('{"variables": {"properties": {}}, "job_configuration": {"name": "a"}}')
    in_yaml = parse("job_configuration: {name: a}\nvariables:\n  properties: {}\n")
    assert in_json.document == in_yaml.document
    assert in_json.digest == in_yaml.digest
    assert len(in_json.digest) == 16
    other = parse("job_configuration: {name: b}\nvariables:\n  properties: {}\n")
    assert other.digest != in_json.digest


def test_a_value_is_what_prefect_stores() -> None:
    found = parse("variables: {1: 2026-01-01}\njob_configuration: {}\n")
    assert found.document["variables"] == {"1": "2026-01-01"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": [1 2}', r"is not valid JSON: expecting ',' delimiter \(line 1, column 10\)"),
        ("a: [1", r"is not valid YAML or JSON: .* \(line 2, column 1\)"),
        ("{{ .Values.template }}", "looks like a Helm template"),
        ("", "is not one mapping"),
        ("[]", "is not one mapping"),
        ("a: 1\n---\na: 2\n", "is not one mapping"),
        ("a: .nan", "cannot be stored as JSON: Out of range float"),
    ],
)
def test_a_text_that_is_no_template_is_refused_with_the_place(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (changed(variables={}), "variables: expected a mapping with at least one"),
        (changed(job_configuration={"name": "a"}), "job_configuration.job_manifest: expected "),
        (
            without_variable("image", but="imag"),
            "containers[0].image: expected a variable that the template declares (did you mean "
            "imag?), got '{{ image }}'",
        ),
    ],
    ids=("no variables", "no manifest", "a placeholder without a variable"),
)
def test_what_the_operator_or_prefect_would_refuse_is_named_with_its_path(
    text: str, error: str
) -> None:
    assert error in "; ".join(parse(text).errors)


def test_of_many_errors_the_first_three_are_listed() -> None:
    errors = parse(changed(variables={"properties": {"none": {}}})).errors
    assert len(errors) == 4
    assert errors[-1].endswith(" more")
