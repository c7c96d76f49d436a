"""Base job templates are checked before any run uses them: errors and warnings."""

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
    return [f"{it.severity}: {it.path_text}: {it.message}" for it in template_check.check(document)]


def test_the_stock_template_has_no_findings():
    assert check(stock_template()) == []
    assert check(template()) == []


def test_a_placeholder_without_a_variable_is_an_error_as_in_prefects_server():
    [found] = check(template(workingDir="{{ imge }}"))
    assert found.startswith(
        f"error: {CONTAINER}.workingDir: expected a variable that the template declares"
    )
    assert "did you mean image?" in found


@pytest.mark.parametrize(
    "text",
    [
        "{{ prefect.blocks.secret.x }}",
        "{{ prefect.variables.x }}",
        "{{ ctx.flow_run.name }}",
        "{{ image.tag }}",
    ],
)
def test_a_placeholder_that_only_a_run_resolves_is_accepted(text):
    assert check(template(workingDir=text)) == []


def run(document: dict[str, Any]) -> list[str]:
    return [
        f"{it.severity}: {it.path_text}: {it.message}"
        for it in template_check.check_default_run(document)
    ]


def test_a_run_with_the_defaults_of_the_template_is_rendered_once():
    assert run(stock_template()) == []
    document = stock_template()
    document["job_configuration"]["job_manifest"]["spec"]["backoffLimit"] = (
        "{{ image_pull_policy }}"
    )
    assert run(document) == [
        "error: job_configuration.job_manifest.spec.backoffLimit: a run that sets no job variable "
        "crashes: expected a 32-bit integer, got 'IfNotPresent'; the value comes from the pool's "
        "default of job variable image_pull_policy"
    ]


def test_a_default_that_prevents_any_manifest_is_reported_with_its_path():
    document = stock_template()
    document["variables"]["properties"]["env"]["default"] = {"A": ["x"]}
    [found] = run(document)
    assert "job_configuration.env.A: a run that sets no job variable crashes: expected" in found


@pytest.mark.parametrize(
    "image", ["{{ prefect.blocks.secret.image }}", "{{ prefect.variables.image }}", "{{ image }}"]
)
def test_a_value_that_only_a_server_or_a_run_has_is_not_reported_as_a_crash(image):
    assert run(template(image=image)) == []


def test_an_environment_placeholder_is_a_warning_unless_the_operator_reads_it(monkeypatch):
    from workpool_operator import settings

    [found] = check(template(workingDir="{{ $HOME }}/x"))
    assert found == (
        f"warning: {CONTAINER}.workingDir: {{{{ $HOME }}}} is empty: the operator reads HOME only "
        "if WORKPOOL_OPERATOR_TEMPLATE_ENVIRONMENT lists it"
    )
    settings.template_environment.cache_clear()
    monkeypatch.setenv("WORKPOOL_OPERATOR_TEMPLATE_ENVIRONMENT", "HOME")
    assert check(template(workingDir="{{ $HOME }}/x")) == []
    settings.template_environment.cache_clear()


@pytest.mark.parametrize(
    ("container", "problem"),
    [
        ({"command": ["/bin/sh", "-c"]}, "uses only the first word"),
        ({"command": ["bash", "-e", "-lc"], "args": "{{ command }}"}, "uses only the first word"),
        ({"command": ["sh", "-c"], "args": ["{{ command }}"]}, "args is empty unless"),
    ],
)
def test_a_shell_that_takes_the_first_word_as_its_script_is_a_warning(container, problem):
    [found] = check(template({"command": {"type": "string"}}, **container))[:1]
    assert found.startswith(f"warning: {CONTAINER}.")
    assert problem in found
    assert 'such as ["exec {{ command }}"]' in found


def test_a_shell_whose_script_contains_the_command_gives_no_warning():
    found = check(
        template(
            {"command": {"type": "string"}},
            command=["sh", "-c"],
            args=["{{ command }}; curl proxy/quit"],
        )
    )
    assert found == []


def test_a_variable_without_effect_is_a_warning():
    assert check(template({"cpu": {"type": "string"}})) == [
        "warning: variables.properties.cpu: is not used in job_configuration and has no effect"
    ]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "default": 5}, "cpu.default: does not match the variable's schema: "),
        ({"type": "integr"}, "cpu.type: is not a JSON schema: 'integr' is not valid"),
        ({"$ref": "#/definitions/x", "default": 1}, "cpu: refers to '/definitions/x', which is"),
        (
            {"type": "object", "additionalProperties": {"type": "string"}, "default": {"A": 1}},
            "cpu.default.A: does not match the variable's schema: 1 is not of type 'string'",
        ),
    ],
)
def test_a_default_that_does_not_match_its_schema_is_an_error(schema, expected):
    [found] = check(template({"cpu": schema}, resources={"limits": {"cpu": "{{ cpu }}"}}))
    assert found.startswith(f"error: variables.properties.{expected}")


@pytest.mark.parametrize(
    "default", [None, "{{ prefect.variables.cpu }}", {"$ref": {"block_document_id": "x"}}]
)
def test_a_default_that_is_known_only_at_run_time_is_not_checked(default):
    schema = {"type": "integer", "default": default}
    found = check(template({"cpu": schema}, resources={"limits": {"cpu": "{{ cpu }}"}}))
    assert found == []


def test_references_between_schemas_are_followed():
    document = template({"cpu": {"$ref": "#/definitions/cpu", "default": "1"}}, tty="{{ cpu }}")
    document["variables"]["definitions"] = {"cpu": {"type": "string"}}
    assert check(document) == []


def test_a_default_that_can_be_a_credential_is_never_printed():
    schema = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 2}}
    document = template({"env": schema | {"default": {"API_TOKEN": "hunter2"}}})
    document["job_configuration"]["env"] = "{{ env }}"
    [found] = check(document)
    assert "API_TOKEN" in found
    assert "hunter2" not in found


def test_all_literal_errors_of_the_manifest_are_reported_at_once():
    found = check(template(image="not an image", resources={"limits": {"cpu": "lots"}}))
    assert any(f"error: {CONTAINER}.image: expected" in text for text in found)
    assert any(f"error: {CONTAINER}.resources.limits.cpu: expected" in text for text in found)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"variables": {}}, "error: job_configuration: expected a mapping with a job_manifest"),
        ({"job_configuration": {"job_manifest": {}}}, "error: variables: is required"),
        (
            {**template(), "varables": {}},
            "warning: varables: unknown field (did you mean variables?)",
        ),
    ],
)
def test_a_template_needs_job_configuration_and_variables(document, expected):
    assert any(text.startswith(expected) for text in check(document))
