"""Hooks, workflows and issue forms are valid, and they run what `make check` runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [
    path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"
]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_hooks_run_the_checks_of_make_check() -> None:
    (checks,) = re.findall(r"^checks = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (repo,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    assert {hook["entry"] for hook in repo["hooks"]} == {f"make {name}" for name in checks.split()}
    assert all(hook["language"] == "system" for hook in repo["hooks"])


def test_the_workflow_of_a_change_runs_the_same_program_as_a_contributor() -> None:
    steps = load(GITHUB / "workflows" / "ci.yml")["jobs"]["test"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_its_actions_and_requests_few_rights(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    text = load(workflow)
    assert text["permissions"]["contents"] == "read"
    assert all("timeout-minutes" in job for job in text["jobs"].values())


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_an_issue_form_has_what_a_forge_requires(form: Path) -> None:
    fields = load(form)
    assert fields["name"]
    assert fields["description"]
    kinds = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert {part["type"] for part in fields["body"]} <= kinds
    asked = [part for part in fields["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in asked}) == len(asked)
    assert all(part["attributes"]["label"] for part in asked)
