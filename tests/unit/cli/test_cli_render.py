"""`render` without a server and a cluster; with them: tests/contract/test_render_command.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.support.command import Command
from tests.support.prefect import stock_template
from workpool_operator.cli import comparison_output
from workpool_operator.cli.redaction import Redaction
from workpool_operator.parity import comparison

KEY = {"secretKeyRef": {"name": "prefect", "key": "api-key"}}
BINDING: dict[str, Any] = {
    "apiVersion": "workpool-operator.dev/v1alpha1",
    "kind": "WorkPoolBinding",
    "metadata": {"name": "etl", "namespace": "data"},
    "spec": {
        "workPool": {"name": "etl"},
        "server": {"url": "http://prefect:4200/api", "apiKey": KEY},
        "jobs": {"namespace": "runs", "serverURL": "http://10.0.0.1/api"},
    },
}


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {"KUBECONFIG": "/nonexistent"})


@pytest.fixture
def template(command):
    return command.write("template.json", stock_template())


def env(job: dict[str, Any]) -> dict[str, Any]:
    entries = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def test_a_template_and_job_variables_are_enough(command, template):
    variables = command.write("v.yaml", {"image": "a:1", "namespace": "mine", "env": {"A": "1"}})
    result = command.here("render", "--template", template, "--variables", variables)
    job = result.document
    assert job["metadata"]["namespace"] == "mine"
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "a:1"
    assert env(job)["A"] == "1"
    again = command.here("render", "--template", template, "--variables", variables, "-o", "json")
    assert json.loads(again.out) == job


def test_a_binding_determines_namespace_address_and_credentials(command, template):
    file = command.write("binding.yaml", BINDING)
    job = command.here("render", "--template", template, "--binding", file).document
    assert job["metadata"]["namespace"] == "runs"
    assert job["metadata"]["annotations"]["workpool-operator.dev/binding"] == "data/etl"
    assert env(job)["PREFECT_API_URL"] == "http://10.0.0.1/api"
    key = env(job)["PREFECT_API_KEY"]["secretKeyRef"]
    assert key["name"].startswith("data-etl-credentials-")  # kept in the namespace of the Jobs


def test_an_environment_that_goes_into_a_secret_is_shown_as_references(command, template):
    binding = yaml.safe_load(yaml.safe_dump(BINDING))
    binding["spec"]["jobs"] = {"environmentSecret": True}
    file = command.write("binding.yaml", binding)
    result = command.here("render", "--template", template, "--binding", file, "--explain")
    name = result.document["metadata"]["name"]
    assert env(result.document)["PREFECT_API_URL"]["secretKeyRef"]["name"] == f"{name}-env"
    assert f"go into Secret '{name}-env'" in result.err


def test_what_a_binding_puts_over_the_job_is_explained_by_its_field(command, template):
    binding = yaml.safe_load(yaml.safe_dump(BINDING))
    host = {"op": "add", "path": "/spec/template/spec/hostname", "value": "flows"}
    stage = {"name": "STAGE", "value": "prod"}
    binding["spec"]["jobs"] |= {"patches": [host], "env": [stage], "environmentSecret": True}
    file = command.write("binding.yaml", binding)
    result = command.here("render", "--template", template, "--binding", file, "--explain")
    assert result.document["spec"]["template"]["spec"]["hostname"] == "flows"
    assert "hostname: flows # binding: jobs.patches[0]" in " ".join(result.out.split())
    assert "name: STAGE # binding: jobs.env" in " ".join(result.out.split())
    binding["spec"]["jobs"]["patches"] = [host | {"op": "replace"}]
    result = command.here(
        "render", "--template", template, "--binding", command.write("b.yaml", binding)
    )
    assert result.code == 1
    assert (
        "spec.jobs.patches[0]: replace /spec/template/spec/hostname: the Job has no" in result.err
    )


def test_values_that_are_named_like_credentials_are_redacted(command, template):
    variables = command.write("v.yaml", {"env": {"API_TOKEN": "hunter2-1", "U": "http://a:b@x"}})
    result = command.here("render", "--template", template, "--variables", variables)
    assert env(result.document)["API_TOKEN"] == "<redacted>"
    assert env(result.document)["U"] == "http://<redacted>@x"
    assert "hunter2-1" not in result.everything


def test_a_note_names_a_job_variable_without_effect(command, template):
    variables = command.write("v.yaml", {"imge": "a:1"})
    result = command.here("render", "--template", template, "--variables", variables)
    assert result.code == 0
    assert "Job variable imge has no effect: no placeholder of the pool's template" in result.err
    assert "(did you mean image?)" in result.err


def test_a_template_that_validate_refuses_is_refused(command):
    document = stock_template()
    pod = document["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = "{{ imge }}"
    result = command.here("render", "--template", command.write("t.json", document))
    assert "containers[0].image: expected a variable that the template declares" in result.error
    assert "did you mean image?" in result.error
    assert result.out == ""


def test_a_note_names_a_namespace_that_the_binding_overrides(command, template):
    variables = command.write("v.yaml", {"namespace": "team-b"})
    file = command.write("binding.yaml", BINDING)
    result = command.here(
        "render", "--template", template, "--variables", variables, "--binding", file
    )
    assert result.document["metadata"]["namespace"] == "runs"
    assert "Job variable namespace 'team-b' has no effect: Jobs are created in 'runs'" in result.err


def test_the_environment_is_read_only_if_the_settings_allow_it(command):
    template = command.write("t.json", stock_template(nodeName="{{ $NODE }}{{ $TOKEN }}"))
    env = {"NODE": "n1", "TOKEN": "hunter2"}
    result = command.run("render", "--template", template, **env)
    assert result.document["spec"]["template"]["spec"]["nodeName"] == ""
    assert "the operator reads TOKEN only if WORKPOOL_OPERATOR_TEMPLATE_ENVIRONMENT" in result.err
    env["WORKPOOL_OPERATOR_TEMPLATE_ENVIRONMENT"] = "NODE"
    result = command.run("render", "--template", template, **env)
    assert result.document["spec"]["template"]["spec"]["nodeName"] == "n1"


def test_the_template_of_a_whole_pool_is_used(command):
    pool = {"name": "etl", "type": "kubernetes", "base_job_template": stock_template()}
    assert command.here("render", "--template", command.write("pool.json", pool)).code == 0


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"image": "not an image"}, "containers[0].image: expected an image reference"),
        ({"image": "{{ prefect.blocks.secret.x }}"}, "needs a server"),
        ({"env": {"A": "{{ prefect.variables.x }}"}}, "needs a server"),
        (["a"], "must contain one mapping"),
        ("{", "is not valid YAML or JSON"),
    ],
)
def test_an_error_is_one_line_with_its_place(command, template, variables, problem):
    path = command.home / "v.yaml"
    path.write_text(variables if isinstance(variables, str) else yaml.safe_dump(variables))
    result = command.here("render", "--template", template, "--variables", path)
    assert problem in result.error
    assert result.out == ""


def test_every_error_of_the_manifest_is_reported(command, template):
    variables = command.write("v.yaml", {"image": "a b", "service_account_name": 5})
    result = command.here("render", "--template", template, "--variables", variables)
    assert (result.code, result.out) == (1, "")
    assert "job variable image of the deployment" in result.err
    assert "job variable service_account_name of the deployment" in result.err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--template", "nowhere"], "nowhere: cannot be read: No such file"),
        (["--template", "."], ".: is a directory"),
        (["--template", "TEMPLATE", "--binding", "nowhere.yaml"], "cannot be read: No such file"),
        (["--template", "TEMPLATE", "--binding", "TEMPLATE"], "contains no WorkPoolBinding"),
        (["--template", "TEMPLATE", "--server-dry-run"], "/nonexistent does not exist"),
        (["--template", "TEMPLATE", "--binding", "a/b"], "/nonexistent does not exist"),
        (["--template", "TEMPLATE", "--kubeconfig", "/nowhere"], "/nowhere does not exist"),
        (["--template", "TEMPLATE", "--binding", "-"], "-: contains no WorkPoolBinding"),
        (["--template", "TEMPLATE", "--diff", "--peer-python", "/none"], "/none: No such file"),
    ],
)
def test_a_missing_file_cluster_or_interpreter_is_an_error_in_one_line(
    command, template, options, problem
):
    result = command.here("render", *(str(template) if o == "TEMPLATE" else o for o in options))
    assert problem in result.error


def test_without_a_server_the_error_says_how_to_set_one(command):
    result = command.run("render", "--deployment", "a/b")
    assert "no Prefect server: set PREFECT_API_URL" in result.error


def test_an_invalid_binding_is_reported_with_its_position(command, template):
    bad = {**BINDING, "spec": {**BINDING["spec"], "concurencyLimit": 1}}
    file = command.write("binding.yaml", bad)
    result = command.here("render", "--template", template, "--binding", file)
    assert "binding.yaml:7:3: spec.concurencyLimit: unknown field (did you mean" in result.error


def second(binding: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**binding, "metadata": {"name": "etl", "namespace": namespace}}


@pytest.mark.parametrize("form", ["documents", "List"])
def test_one_of_several_bindings_in_a_file_is_selected_by_its_name(command, template, form):
    bindings = [BINDING, second(BINDING, "ml"), {"kind": "Secret", "apiVersion": "v1"}]
    file = command.home / "all.yaml"
    if form == "List":
        file.write_text(yaml.safe_dump({"kind": "List", "items": bindings}))
    else:
        file.write_text(yaml.safe_dump_all(bindings))

    def render(binding: str) -> Any:
        return command.here("render", "--template", template, "--binding", binding)

    rendered = render(f"{file}#ml/etl").document
    assert rendered["metadata"]["annotations"]["workpool-operator.dev/binding"] == "ml/etl"
    name_one = f"(data/etl, ml/etl): name one, such as {file}#data/etl"
    assert f"contains 2 WorkPoolBindings {name_one}" in render(str(file)).error
    assert f"contains 2 WorkPoolBindings named 'etl' {name_one}" in render(f"{file}#etl").error
    assert "contains no WorkPoolBinding 'x', only data/etl, ml/etl" in render(f"{file}#x").error


def job(**container: Any) -> dict[str, Any]:
    containers = [{"name": "flow", "env": [], **container}]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


def test_an_undocumented_difference_is_reported_as_a_bug():
    from workpool_operator.parity.differences import find_differences

    stock, ours = job(tty=True), job(tty=False)
    found = comparison.Comparison(stock, ours, find_differences(stock, ours))
    assert found.equivalent is False
    text = comparison_output.as_text(found, Redaction())
    assert "not documented: please report this bug" in text
    assert "spec.template.spec.containers[0].tty" in text
    same = comparison.Comparison(ours, ours, [])
    assert same.equivalent is True
    assert comparison_output.as_text(same, Redaction()) == "no difference"
