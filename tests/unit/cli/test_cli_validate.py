"""`validate`: which documents it checks, as what, and how a program reads the findings."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.operator import PROGRAM
from tests.support.prefect import stock_template

CHECKOUT = Path(__file__).parents[3]
EXPECTED = "expected a WorkPoolBinding, a base job template or a prefect.yaml"
GOOD = """\
apiVersion: workpool-operator.dev/v1alpha1
kind: WorkPoolBinding
metadata: {name: etl}
spec: {workPool: {name: etl}, server: {url: "http://prefect:4200/api"}}
"""


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {})


def validate(command: Command, text: str, *options: str) -> tuple[int, list[str]]:
    result = command.here("validate", *options, "-", stdin=text)
    assert result.err == ""
    return result.code, result.out.splitlines()


def test_a_good_binding_is_valid_from_standard_input_too(command):
    assert validate(command, GOOD) == (0, ["1 binding valid"])


def test_the_examples_are_valid(command):
    bindings = [
        path
        for path in (CHECKOUT / "examples").rglob("*.yaml")
        if "kind: WorkPoolBinding" in path.read_text()
    ]
    assert bindings
    result = command.here("validate", *bindings)
    assert result.code == 0, result.out


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "",
            f"-:1:1: error: is empty; {EXPECTED}",
        ),
        ("- 1", f"-:1:1: error: {EXPECTED}"),
        ("a: 1", f"-:1:1: error: {EXPECTED}"),
        (
            "apiVersion: v1\nkind: Secret\n",
            f"-:1:1: error: is a Secret; {EXPECTED}",
        ),
        (
            GOOD.replace("WorkPoolBinding", "WorkPoolBindng"),
            "-:2:1: error: kind: must be WorkPoolBinding, is 'WorkPoolBindng'",
        ),
        (
            GOOD + "spec: {}",
            "-:5:1: error: spec: duplicate key: remove one of the two",
        ),
        (
            "{name: p, type: process, base_job_template: 1}",
            "-:1:11: error: type: 'process' is not a type that a binding can serve: "
            "use kubernetes or kubernetes-operator",
        ),
    ],
)
def test_a_document_that_is_wrong_as_a_whole_is_an_error(command, text, line):
    code, lines = validate(command, text)
    assert code == 1
    assert line in lines


def test_every_item_of_a_list_is_checked(command):
    items = [json.loads(json.dumps({"kind": "WorkPoolBinding", "metadata": {"name": "x"}}))] * 2
    code, lines = validate(command, json.dumps({"kind": "List", "items": items}))
    assert code == 1
    assert sum(": items[1].spec: is required" in line for line in lines) == 1


def test_the_template_of_a_pool_as_prefect_prints_it_is_checked(command):
    template = stock_template(nodeSelector="{{ unknown }}")
    pool = {"name": "etl", "type": "kubernetes", "base_job_template": template}
    code, lines = validate(command, json.dumps(pool, indent="\t"))
    assert code == 1
    assert ": base_job_template.job_configuration.job_manifest.spec.template.spec" in lines[0]


def test_json_output_has_the_parts_of_each_finding(command):
    code, lines = validate(command, GOOD.replace("name: etl}, s", "name: a/b}, s"), "-o", "json")
    assert code == 1
    assert json.loads("\n".join(lines)) == {
        "findings": [
            {
                "file": "-",
                "line": 4,
                "column": 19,
                "path": "spec.workPool.name",
                "severity": "error",
                "message": "'a/b' must be a name as Prefect shows it: not empty, without / and %",
            }
        ],
        "errors": 1,
        "warnings": 0,
        "checked": {"bindings": 1, "workPools": 0, "baseJobTemplates": 0, "deploymentFiles": 0},
        "skipped": 0,
    }


def test_json_output_counts_warnings_and_skipped_objects(command):
    text = GOOD.replace("/api", "") + "---\napiVersion: v1\nkind: Secret\n"
    code, lines = validate(command, text, "-o", "json")
    found = json.loads("\n".join(lines))
    assert (code, found["errors"], found["warnings"], found["skipped"]) == (0, 0, 1, 1)
    assert found["findings"][0]["severity"] == "warning"


def test_objects_of_other_kinds_are_skipped_with_one_note(command):
    other = "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n"
    result = command.here("validate", "-", stdin=other + GOOD.join(["---\n", other]) + other)
    assert (result.code, result.out) == (0, "1 binding valid\n")
    assert result.err == "note: skipped 3 objects of other kinds\n"


def test_a_file_with_nothing_but_other_kinds_is_an_error(command):
    other = "---\napiVersion: v1\nkind: Secret\n"
    code, lines = validate(command, other * 2)
    assert (code, lines[0]) == (
        1,
        "-:1:1: error: contains no WorkPoolBinding and no base job template",
    )


def named(namespace: str, name: str, **spec: str) -> str:
    parts = {"workPool": "{name: etl}", "server": '{url: "http://prefect:4200/api"}', **spec}
    text = ", ".join(f"{key}: {value}" for key, value in parts.items())
    metadata = f"{{namespace: {namespace}, name: {name}}}"
    return GOOD.replace("{name: etl}", metadata, 1).partition("spec")[0] + f"spec: {{{text}}}\n"


@pytest.mark.parametrize(
    ("second", "warning"),
    [
        (named("a", "x"), "metadata.name: same namespace and name as one.yaml:1: applying one"),
        (named("b", "x"), "spec.workPool.name: one.yaml:1 also serves work pool 'etl': each run"),
        (named("a", "y", workQueues="[q]"), "one.yaml:1 also serves work pool 'etl'"),
        (named("b", "x", workPool="{name: other}"), None),
        (named("b", "x", server='{url: "http://b/api"}'), None),
    ],
)
def test_two_bindings_that_conflict_are_a_warning(command, monkeypatch, second, warning):
    monkeypatch.chdir(command.home)
    (command.home / "one.yaml").write_text(named("a", "x"))
    (command.home / "two.yaml").write_text(second)
    result = command.here("validate", "one.yaml", "two.yaml")
    lines = result.out.splitlines()
    assert result.code == 0
    assert len(lines) == (2 if warning else 1)
    assert lines[-1] == f"2 bindings valid{', 1 warning' if warning else ''}"
    if warning:
        assert lines[0].startswith("two.yaml:")
        assert f": warning: {warning}" in lines[0] or warning in lines[0]


def test_bindings_conflict_only_if_they_share_a_queue(command):
    queues = ("[a]", "[b, c]", "[d, c]")
    text = "---\n".join(named("n", f"x{q[1]}", workQueues=q) for q in queues)
    code, lines = validate(command, text)
    assert code == 0
    assert len(lines) == 2
    assert "-:6 also serves work queue 'c' of work pool 'etl'" in lines[0]


def test_five_thousand_bindings_are_compared(command):
    text = "---\n".join(named("n", f"x{i}", workQueues=f"[q{i}]") for i in range(5000))
    assert validate(command, text) == (0, ["5000 bindings valid"])


def test_a_directory_is_searched_for_bindings_and_templates(command, monkeypatch):
    monkeypatch.chdir(command.home)
    chart = command.home / "gitops" / "chart"
    chart.mkdir(parents=True)
    (chart / "role.yaml").write_text("name: {{ .Values.name }}\n")
    (chart / "values.yaml").write_text("replicas: 1\nvariables: {a: b}\n")
    (chart / "secret.yaml").write_text("apiVersion: v1\nkind: Secret\n")
    (chart / "etl.yaml").write_text(GOOD)
    command.write("gitops/template.json", stock_template())
    result = command.here("validate", "gitops")
    assert (result.code, result.out) == (0, "1 base job template, 1 binding valid\n")
    assert result.err == (
        "note: skipped 2 objects of other kinds\nnote: skipped 1 Helm template: render them first\n"
    )
    (chart / "broken.yaml").write_text("a: [")
    result = command.here("validate", "gitops")
    assert result.code == 1
    assert result.out.startswith("gitops/chart/broken.yaml:2:1: error: is not valid YAML or JSON")


def test_a_directory_without_anything_to_check_is_an_error(command):
    result = command.here("validate", str(command.home))
    assert result.code == 1
    assert ":1:1: error: contains no WorkPoolBinding and no base job template" in result.out


def test_output_to_a_file_has_no_colours(command):
    assert "\x1b" not in command.run("validate", "-", stdin="a: 1").everything


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_output_to_a_terminal_has_colours_unless_no_color_is_set(command, env, coloured):
    primary, secondary = pty.openpty()
    path = command.write("file.json", {"a": 1})
    arguments = [str(PROGRAM), "validate", str(path)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(command.home), "TERM": "xterm", **env}
    subprocess.run(arguments, stdout=secondary, env=environment, check=False)
    os.close(secondary)
    shown = os.read(primary, 10_000).decode()
    os.close(primary)
    assert "expected a WorkPoolBinding" in shown
    assert ("\x1b[31merror" in shown) is coloured
