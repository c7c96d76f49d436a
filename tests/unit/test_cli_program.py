"""The program as a whole: help, completion, usage errors, and a start that nobody waits for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.command import Command
from tests.support.operator import PROGRAM

HEAVY = ("prefect", "aiohttp", "kopf", "yaml", "pydantic", "jsonschema", "kubernetes_asyncio")


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {})


@pytest.mark.parametrize("arguments", [[], ["render"], ["validate"], ["run"], ["unbind"], ["crd"]])
def test_each_command_has_a_help_that_names_its_options(command, arguments):
    said = command.run(*arguments, "--help", COLUMNS="80")
    assert said.code == 0
    assert "Usage: workpool-operator" in said.out


def test_help_imports_nothing_that_only_a_command_needs():
    program = (
        "import json, sys; from workpool_operator.cli import app; "
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    found = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert json.loads(found) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_for_each_shell(command, shell):
    said = command.run(_WORKPOOL_OPERATOR_COMPLETE=f"source_{shell}")
    assert said.code == 0
    assert "_WORKPOOL_OPERATOR_COMPLETE" in said.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("workpool-operator re", ["render"]),
        ("workpool-operator val", ["validate"]),
        ("workpool-operator render --output ", ["yaml", "json"]),
        ("workpool-operator render --fl", ["--flow-run"]),
    ],
)
def test_commands_options_and_their_values_are_completed(command, words, expected):
    said = command.run(
        _WORKPOOL_OPERATOR_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )
    assert said.out.split() == expected


def test_completion_is_shown_and_installed_for_the_shell_that_asks(command):
    def bash(option: str) -> str:
        script = f"{PROGRAM} {option}; true"  # so that bash stays, as the parent that is asked for
        env = {"HOME": str(command.home), "PATH": "/usr/bin:/bin"}
        return subprocess.check_output(["bash", "-c", script], env=env, text=True)

    assert "complete -o default -F _workpool_operator_completion" in bash("--show-completion")
    assert "bash completion installed" in bash("--install-completion")
    assert (command.home / ".bash_completions/workpool-operator.sh").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["render"], "name one of --flow-run"),
        (["render", "--flow-run", "x"], "UUID"),
        (["render", "--template", "t", "--diff"], "--diff and --peer-python belong together"),
        (["render", "--template", "t", "-o", "xml"], "'xml'"),
        (
            [
                "render",
                "--template",
                "t",
                "--flow-run",
                "00000000-0000-0000-0000-000000000000",
                "--variables",
                "v",
            ],
            "leave",
        ),
        (["validate"], "FILE"),
        (["vaildate", "x"], "vaildate"),
    ],
)
def test_a_wrong_usage_is_told_and_has_its_own_exit_code(command, arguments, problem):
    said = command.run(*arguments)
    assert said.code == 2
    assert problem in said.err
    assert said.out == ""
