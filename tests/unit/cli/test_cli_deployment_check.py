"""The job variables of a `prefect.yaml`, checked against the template of their pool."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.command import Command
from tests.support.prefect import stock_template
from workpool_operator.cli import deployment_check
from workpool_operator.errors import OperatorError

PREFIX = "deployments[0].work_pool.job_variables"


def pools(template: Any = None, type_: str = "kubernetes"):
    pool = {"name": "etl", "type": type_, "base_job_template": template or stock_template()}
    return lambda name: pool | {"name": name}


def check(variables: Any, read_pool=None, **work_pool: Any) -> list[str]:
    deployment = {"name": "a", "work_pool": {"name": "etl", "job_variables": variables} | work_pool}
    found = deployment_check.check({"deployments": [deployment]}, read_pool or pools())
    return [f"{each.severity}: {each.path_text}: {each.message}" for each in found]


@pytest.mark.parametrize(
    "variables",
    [
        None,
        {},
        {"image": "a/b:1", "cpu_request": "500m", "env": {"STAGE": "live"}},
        {"image": "{{ build-image.image }}", "finished_job_ttl": "{{ $TTL }}"},
        {"env": {"TOKEN": "{{ prefect.blocks.secret.token }}"}, "labels": {"a": "{{ $A }}"}},
    ],
)
def test_variables_that_fit_have_no_findings(variables):
    assert check(variables) == []


@pytest.mark.parametrize(
    ("variables", "finding"),
    [
        (
            {"imge": "a:1"},
            f"error: {PREFIX}.imge: unknown job variable: no placeholder of the pool's template "
            "uses it (did you mean image?)",
        ),
        (
            {"cpu": "2"},
            f"error: {PREFIX}.cpu: unknown job variable: no placeholder of the pool's template "
            "uses it; set cpu_limit, cpu_request instead",
        ),
        (
            {"finished_job_ttl": "1h"},
            f"error: {PREFIX}.finished_job_ttl: does not match the variable's schema: '1h' is not "
            "of type 'integer'",
        ),
        (
            {"stream_output": True},
            f"warning: {PREFIX}.stream_output: has no effect: `kubectl logs` shows the output of a "
            "pod; Prefect has the flow's log lines",
        ),
        (
            {"namespace": "team"},
            f"warning: {PREFIX}.namespace: has an effect only if spec.jobs.allowedNamespaces of "
            "the binding lists it; else Jobs are created in spec.jobs.namespace",
        ),
        (
            {"memory_limit": "1 GB"},
            f"error: {PREFIX}.memory_limit: a run crashes: job_manifest.spec.template.spec."
            "containers[0].resources.limits.memory: expected a quantity, such as 500m, 2 or 1Gi, "
            "got '1 GB'; the value comes from job variable memory_limit of the deployment",
        ),
        ([1], f"error: {PREFIX}: must be a mapping of job variables"),
    ],
)
def test_each_fault_is_named_with_path_value_and_fix(variables, finding):
    assert check(variables) == [finding]


def test_a_fault_in_one_variable_hides_none_in_another():
    found = check({"image": "a/b: latest", "env": [7], "finished_job_ttl": "x", "cpu": 1})
    assert {line.partition(PREFIX)[2].partition(":")[0] for line in found} == {
        ".image",
        ".env",
        ".finished_job_ttl",
        ".cpu",
    }


def test_values_of_the_environment_are_not_printed():
    found = check({"env": {"TOKEN": ["s3cret"]}}) + check({"env": [{"name": "A", "value": ["s3"]}]})
    assert found
    assert "s3" not in "".join(found)


def test_a_variable_that_the_template_requires_is_missed():
    template = stock_template()
    template["variables"]["required"] = ["image", "image_pull_policy"]
    assert check({"cpu_limit": "1"}, pools(template)) == [
        f"error: {PREFIX}: image is required by the template of work pool 'etl'"
    ]


def refuse(name: str):
    raise OperatorError("cannot reach http://x/api")


@pytest.mark.parametrize(
    ("read_pool", "name", "finding"),
    [
        (refuse, "etl", "error: deployments[0].work_pool.name: cannot reach http://x/api"),
        (
            pools(type_="docker"),
            "etl",
            "warning: deployments[0].work_pool.name: work pool 'etl' has type 'docker', so no "
            "binding serves it: not checked",
        ),
        (
            pools({"job_configuration": 1}),
            "etl",
            "error: deployments[0].work_pool.name: the base job template of work pool 'etl' is "
            "not valid: job_configuration: expected a mapping with a job_manifest, got 1",
        ),
        (
            refuse,
            "{{ $POOL }}",
            "warning: deployments[0].work_pool.name: '{{ $POOL }}' is resolved by `prefect "
            "deploy`, so the job variables are not checked: add --template FILE",
        ),
    ],
)
def test_a_pool_whose_template_is_not_known_is_named(read_pool, name, finding):
    assert check({"image": "a:1"}, read_pool, name=name) == [finding]


PROJECT = """\
name: etl
definitions:
  common: &common {image: registry.example/flows:1}
deployments:
  - name: good
    work_pool: {name: etl, job_variables: *common}
  - name: wrong
    work_pool:
      name: etl
      job_variables:
        <<: *common
        finished_job_ttl: soon
  - 5
"""


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {})


def test_the_file_is_recognised_and_each_finding_has_its_line(command):
    template = command.write("template.json", stock_template())
    file = command.home / "prefect.yaml"
    file.write_text(PROJECT)
    result = command.here("validate", file, "--template", template)
    assert result.code == 1
    assert [line.partition("prefect.yaml:")[2][:13] for line in result.out.splitlines()[:-1]] == [
        "12:9: error: ",
        "13:5: error: ",
    ]
    file.write_text(PROJECT.partition("  - name: wrong")[0])
    assert command.here("validate", file, "--template", template).out == "1 deployment file valid\n"


def test_in_a_directory_it_is_skipped_because_it_can_need_a_server(command):
    (command.home / "prefect.yaml").write_text(PROJECT)
    command.write("template.json", stock_template())
    result = command.here("validate", command.home)
    assert (result.code, result.out) == (0, "1 base job template valid\n")
    assert "skipped 1 object of other kinds" in result.err


def test_a_template_that_cannot_be_read_is_an_error(command):
    file = command.home / "prefect.yaml"
    file.write_text(PROJECT)
    result = command.here("validate", file, "--template", command.home / "none.json")
    assert "none.json: cannot be read: No such file or directory" in result.error
