"""The program as a whole: help, completion, usage errors, and a fast start."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from testbed.state import CHECKOUT
from tests.support.command import Command
from tests.support.operator import PROGRAM
from workpool_operator import prefect_version
from workpool_operator.cli import app

HEAVY = ("prefect", "aiohttp", "kopf", "yaml", "pydantic", "jsonschema", "kubernetes_asyncio")


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {})


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_each_command_has_a_help_text(command, arguments):
    result = command.run(*arguments, "--help", COLUMNS="80")
    assert result.code == 0
    assert "Usage: workpool-operator" in result.out
    assert command.here(*arguments, "-h").out == command.here(*arguments, "--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_on_commands_has_each_command_with_all_of_its_options(name):
    page = (CHECKOUT / "docs" / "commands.md").read_text()
    section = page.partition(f"\n## {name}: ")[2].partition("\n## ")[0]
    options = {each for option in COMMANDS[name].params for each in option.opts if "--" in each}
    common = {"--kubeconfig", "--context", "--output"}  # explained once, or by its short form
    assert {
        each for each in options - common if f"`{each}" not in section.replace(" ", "` `")
    } == set()
    assert section


def test_the_version_is_that_of_the_package(command):
    result = command.run("--version")
    assert (result.code, result.out) == (
        0,
        f"workpool-operator {version('workpool-operator')}, Prefect {version('prefect')}\n",
    )


#: Runs the program as where Prefect is not installed.
WITHOUT_PREFECT = """
import sys
class Nowhere:
    def find_spec(self, name, *_):
        if name == "prefect":
            raise ModuleNotFoundError("No module named 'prefect'", name=name)
sys.meta_path.insert(0, Nowhere())
from workpool_operator.cli import app
app()
"""


def without_prefect(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", WITHOUT_PREFECT, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, input=stdin, check=False)


def test_a_command_that_needs_prefect_says_how_to_install_it():
    done = without_prefect("validate", "-", stdin='{"job_configuration": {}, "variables": {}}')
    assert done.stderr == (
        "workpool-operator: error: this command needs Prefect, which is not installed: "
        "pip install 'workpool-operator[client]'\n"
    )
    assert done.returncode == 1


def test_the_crd_is_printed_without_prefect():
    assert "kind: CustomResourceDefinition\n" in without_prefect("crd").stdout


@pytest.mark.parametrize(
    ("installed", "printed"),
    [("prefect", "Prefect 3.8.8"), ("prefect-client", "Prefect 3.8.8"), ("", "without Prefect")],
)
def test_the_version_names_whichever_distribution_of_prefect_is_installed(
    monkeypatch, installed, printed
):
    def found(name: str) -> str:
        if name not in {"workpool-operator", installed}:
            raise metadata.PackageNotFoundError(name)
        return "3.8.8"

    monkeypatch.setattr(metadata, "version", found)
    monkeypatch.setattr(prefect_version, "version", found)
    uncached = prefect_version.prefect_version.__wrapped__
    monkeypatch.setattr(prefect_version, "prefect_version", uncached)
    assert CliRunner().invoke(app, ["--version"]).output == f"workpool-operator 3.8.8, {printed}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["crd"], ["validate", "-"], ["unbind", "-h"]]
)
def test_a_full_disk_is_an_error_in_one_line(command, arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            input="a: 1",
            check=False,
        )
    problem = "cannot write the output: No space left on device"
    assert done.stderr == f"workpool-operator: error: {problem}\n"
    assert done.returncode == 1


def test_a_reader_that_closes_the_pipe_early_causes_no_error(command):
    script = f"{PROGRAM} crd | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_help_imports_no_heavy_library():
    program = (
        "import json, sys; from workpool_operator.cli import app; "
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    found = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert json.loads(found) == []


@pytest.mark.parametrize("module", ["doctor", "status", "unbind", "validation_report"])
def test_a_command_that_needs_no_prefect_starts_without_its_import(module):
    """Its import takes two seconds."""
    program = f"import sys, workpool_operator.cli.{module}; sys.exit('prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_for_each_shell(command, shell):
    result = command.run(_WORKPOOL_OPERATOR_COMPLETE=f"source_{shell}")
    assert result.code == 0
    assert "_WORKPOOL_OPERATOR_COMPLETE" in result.out


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
    result = command.run(
        _WORKPOOL_OPERATOR_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )
    assert result.out.split() == expected


def test_completion_is_shown_and_installed_for_the_current_shell(command):
    def bash(option: str) -> str:
        script = f"{PROGRAM} {option}; true"  # keeps bash as the parent process
        env = {"HOME": str(command.home), "PATH": "/usr/bin:/bin"}
        return subprocess.check_output(["bash", "-c", script], env=env, text=True)

    assert "complete -o default -F _workpool_operator_completion" in bash("--show-completion")
    assert "bash completion installed" in bash("--install-completion")
    assert (command.home / ".bash_completions/workpool-operator.sh").exists()


@pytest.mark.parametrize("arguments", [["unbind", "-A", "--dry-run"], ["status"]])
def test_an_unreachable_cluster_is_named_with_its_context(command, arguments):
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "prod", "context": {"cluster": "c", "user": "u"}}
    file = command.write(
        "kubeconfig.json",
        {
            "clusters": [cluster],
            "contexts": [context],
            "users": [{"name": "u", "user": {}}],
            "current-context": "prod",
        },
    )
    result = command.run(*arguments, "--kubeconfig", file)
    assert "error: cannot reach http://127.0.0.1:1 (context prod): " in result.error
    checked = command.run(
        "doctor", "-n", "data", "a/b", "--patience-seconds=0", "--kubeconfig", file
    )
    assert checked.code == 1
    assert "the Kubernetes API does not answer" in checked.out
    assert "FAIL  a/b: address and credentials: " in checked.out


@pytest.mark.parametrize("arguments", [["unbind", "-A", "--dry-run"], ["status"], ["doctor", "-A"]])
def test_a_missing_kubeconfig_is_one_error_with_the_fix(command, arguments):
    result = command.run(*arguments)
    assert result.error == (
        "workpool-operator: error: the kubeconfig ~/.kube/config does not exist. "
        "Set KUBECONFIG to a file that exists."
    )


def test_without_a_prefect_server_the_other_findings_of_a_deployment_file_are_shown(command):
    deployments = [{"name": "a", "work_pool": {"name": "etl", "job_variables": {"image": "a"}}}, 7]
    file = command.write("prefect.yaml", {"deployments": deployments})
    result = command.run("validate", file)
    assert result.code == 1
    assert "no Prefect server: set PREFECT_API_URL, or select a profile" in result.out
    assert "--template FILE checks without a server" in result.out
    assert "deployments[1]: must be a mapping" in result.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["render"], "set one of --flow-run"),
        (["render", "--flow-run", "x"], "UUID"),
        (["render", "--template", "t", "--diff"], "--diff and --peer-python must be used"),
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
            "cannot be combined with --flow-run",
        ),
        (["validate"], "FILE"),
        (["vaildate", "x"], "vaildate"),
        (["unbind"], "set either --namespace or --all-namespaces"),
        (["status", "-n", "a", "-A"], "set one of NS/NAME, --namespace and --all-namespaces"),
        (["explain"], "name a flow run, or with --binding NS/NAME"),
        (["status", "etl"], "'etl' must be NAMESPACE/NAME"),
        (["doctor", "-A", "data/etl/x"], "'data/etl/x' must be NAMESPACE/NAME"),
        (["unbind", "-l", "a=b", "--yes"], "set either --namespace"),
        (["unbind", "-n", "a", "-A", "--yes"], "set either --namespace"),
        (["unbind", "-n", "a"], "standard input is not a terminal"),
    ],
)
def test_wrong_usage_is_explained_and_has_its_own_exit_code(command, arguments, problem):
    result = command.run(*arguments)
    assert result.code == 2
    assert problem in result.err
    assert result.out == ""
