"""Which documents are looked at, as what, and what a program reads of it."""

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

CHECKOUT = Path(__file__).parents[2]
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
    said = command.here("validate", *options, "-", stdin=text)
    assert said.err == ""
    return said.code, said.out.splitlines()


def test_a_good_binding_is_valid_also_from_standard_input(command):
    assert validate(command, GOOD) == (0, ["1 file valid"])


def test_the_examples_are_valid(command):
    bindings = [
        path
        for path in (CHECKOUT / "examples").rglob("*.yaml")
        if "kind: WorkPoolBinding" in path.read_text()
    ]
    assert bindings
    said = command.here("validate", *bindings)
    assert said.code == 0, said.out


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "-:1:1: error: holds nothing; expected a WorkPoolBinding or a base job template"),
        ("- 1", "<stdin>:1:1: error: expected a WorkPoolBinding or a base job template"),
        ("a: 1", "<stdin>:1:1: error: expected a WorkPoolBinding or a base job template"),
        (
            "apiVersion: v1\nkind: Secret\n",
            "<stdin>:1:1: error: is a Secret; expected a WorkPoolBinding or a base job template",
        ),
        (
            GOOD.replace("WorkPoolBinding", "WorkPoolBindng"),
            "<stdin>:2:1: error: kind: must be WorkPoolBinding, is 'WorkPoolBindng'",
        ),
        (
            GOOD + "spec: {}",
            "<stdin>:5:1: error: spec: is there twice: only one of them can count",
        ),
        (
            "{name: p, type: process, base_job_template: 1}",
            "<stdin>:1:11: error: type: must be kubernetes or kubernetes-operator for a binding "
            "to serve it, is 'process'",
        ),
    ],
)
def test_what_is_not_looked_at_or_is_wrong_as_a_whole_is_told(command, text, line):
    code, lines = validate(command, text)
    assert code == 1
    assert line in lines


def test_every_item_of_a_list_is_looked_at(command):
    items = [json.loads(json.dumps({"kind": "WorkPoolBinding", "metadata": {"name": "x"}}))] * 2
    code, lines = validate(command, json.dumps({"kind": "List", "items": items}))
    assert code == 1
    assert sum(": items[1].spec: is required" in line for line in lines) == 1


def test_a_pool_as_prefect_prints_it_is_a_template(command):
    template = stock_template(nodeSelector="{{ nobody }}")
    pool = {"name": "etl", "type": "kubernetes", "base_job_template": template}
    code, lines = validate(command, json.dumps(pool, indent="\t"))
    assert code == 1
    assert ": base_job_template.job_configuration.job_manifest.spec.template.spec" in lines[0]


def test_a_program_reads_each_finding_with_its_parts(command):
    code, lines = validate(command, GOOD.replace("name: etl}, s", "name: a/b}, s"), "-o", "json")
    assert code == 1
    assert json.loads("\n".join(lines)) == {
        "findings": [
            {
                "file": "<stdin>",
                "line": 4,
                "column": 19,
                "path": "spec.workPool.name",
                "severity": "error",
                "message": "must be a name as Prefect shows it: not empty, without / and %, "
                "is 'a/b'",
            }
        ],
        "errors": 1,
    }


def test_no_colour_reaches_a_file(command):
    assert "\x1b" not in command.run("validate", "-", stdin="a: 1").everything


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_has_colours_unless_its_user_wants_none(command, env, coloured):
    primary, secondary = pty.openpty()
    path = command.write("file.json", {"a": 1})
    arguments = [PROGRAM, "validate", str(path)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(command.home), "TERM": "xterm", **env}
    subprocess.run(arguments, stdout=secondary, env=environment, check=False)
    os.close(secondary)
    shown = os.read(primary, 10_000).decode()
    os.close(primary)
    assert "expected a WorkPoolBinding" in shown
    assert ("\x1b[31merror" in shown) is coloured
