"""What a namespace's annotation allows, and the command that adds to it."""

from __future__ import annotations

import shlex

import pytest

from workpool_operator.binding.consent import ANNOTATION, allowed, command


@pytest.mark.parametrize(
    ("annotation", "namespaces"),
    [
        ("", set()),
        (" , ", set()),
        ("data", {"data"}),
        ("data, ml ,", {"data", "ml"}),
        ("*", {"*"}),
    ],
)
def test_the_annotation_lists_namespaces_separated_by_commas(
    annotation: str, namespaces: set[str]
) -> None:
    assert allowed(annotation) == namespaces


@pytest.mark.parametrize("annotation", ["", ",", " "])
def test_the_command_sets_an_annotation_that_allows_nobody(annotation: str) -> None:
    text = command(annotation, binding_namespace="data", job_namespace="runs")
    assert text == f"kubectl annotate namespace runs --overwrite {ANNOTATION}=data"


def test_the_command_keeps_what_is_allowed_already_and_does_not_show_it() -> None:
    text = command("finance", binding_namespace="data", job_namespace="runs")
    assert "finance" not in text
    *_, assignment = shlex.split(text)
    read = "kubectl get namespace runs -o jsonpath="
    key = r"workpool-operator\.dev/allowed-binding-namespaces"
    assert assignment == f"{ANNOTATION}=$({read}'{{.metadata.annotations.{key}}}'),data"
