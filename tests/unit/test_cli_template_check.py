"""Base job templates before any run meets them: every fault, and what is hardly meant so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.prefect import stock_template
from workpool_operator.cli import template_check

CONTAINER = "job_configuration.job_manifest.spec.template.spec.containers[0]"


def template(variables: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    containers = [{"name": "flow", "image": "{{ image }}", **container}]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"template": {"spec": {"containers": containers, "restartPolicy": "Never"}}},
    }
    return {
        "job_configuration": {"job_manifest": job},
        "variables": {"properties": {"image": {"type": "string"}, **(variables or {})}},
    }


def check(document: dict[str, Any]) -> list[str]:
    return [f"{it.severity}: {it.where}: {it.message}" for it in template_check.check(document)]


def test_the_stock_template_has_no_findings():
    assert check(stock_template()) == []
    assert check(template()) == []


def test_a_placeholder_of_no_variable_is_refused_as_prefects_server_refuses_it():
    [found] = check(template(workingDir="{{ imge }}"))
    assert found.startswith(f"error: {CONTAINER}.workingDir: expected a variable of the template")
    assert "did you mean image?" in found


@pytest.mark.parametrize(
    "text",
    [
        "{{ prefect.blocks.secret.x }}",
        "{{ prefect.variables.x }}",
        "{{ $HOME }}",
        "{{ ctx.flow_run.name }}",
        "{{ image.tag }}",
    ],
)
def test_what_is_no_variable_of_the_template_is_left_to_the_run(text):
    assert check(template(workingDir=text)) == []


def test_a_variable_without_effect_is_a_warning():
    assert check(template({"cpu": {"type": "string"}})) == [
        "warning: variables.properties.cpu: is used nowhere in job_configuration: it has no effect"
    ]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "default": 5}, "cpu.default: is not what the variable's schema asks"),
        ({"type": "integr"}, "cpu.type: is no JSON schema: 'integr' is not valid"),
        ({"$ref": "#/definitions/x", "default": 1}, "cpu: refers to '/definitions/x', which is"),
        (
            {"type": "object", "additionalProperties": {"type": "string"}, "default": {"A": 1}},
            "cpu.default.A: is not what the variable's schema asks for: 1 is not of type 'string'",
        ),
    ],
)
def test_a_default_has_to_be_what_its_schema_asks_for(schema, expected):
    [found] = check(template({"cpu": schema}, resources={"limits": {"cpu": "{{ cpu }}"}}))
    assert found.startswith(f"error: variables.properties.{expected}")


@pytest.mark.parametrize(
    "default", [None, "{{ prefect.variables.cpu }}", {"$ref": {"block_document_id": "x"}}]
)
def test_a_default_that_is_known_only_later_is_left_alone(default):
    schema = {"type": "integer", "default": default}
    found = check(template({"cpu": schema}, resources={"limits": {"cpu": "{{ cpu }}"}}))
    assert found == []


def test_references_between_schemas_are_followed():
    document = template({"cpu": {"$ref": "#/definitions/cpu", "default": "1"}}, tty="{{ cpu }}")
    document["variables"]["definitions"] = {"cpu": {"type": "string"}}
    assert check(document) == []


def test_a_default_that_may_be_a_credential_is_not_repeated():
    schema = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 2}}
    document = template({"env": schema | {"default": {"API_TOKEN": "geheim"}}})
    document["job_configuration"]["env"] = "{{ env }}"
    [found] = check(document)
    assert "API_TOKEN" in found
    assert "geheim" not in found


def test_literal_faults_of_the_manifest_are_told_all_at_once():
    found = check(template(image="not an image", resources={"limits": {"cpu": "lots"}}))
    assert any(f"error: {CONTAINER}.image: expected" in text for text in found)
    assert any(f"error: {CONTAINER}.resources.limits.cpu: expected" in text for text in found)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"variables": {}}, "error: job_configuration: expected a mapping with a job_manifest"),
        ({"job_configuration": {"job_manifest": {}}}, "error: variables: is required"),
        ({**template(), "varables": {}}, "warning: varables: is no part of a base job template"),
    ],
)
def test_the_halves_of_a_template_have_to_be_there(document, expected):
    assert any(text.startswith(expected) for text in check(document))
