"""Which namespace a Job gets, under a binding that lists several."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.subjects import IDENTITY
from workpool_operator.errors import RenderError
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.render import choose_namespace

OPEN = replace(IDENTITY, namespace="etl", allowed_namespaces=frozenset({"ml", "finance"}))


def chosen_by(namespace: str = "", *, pool_default: str = "default") -> RenderInput:
    template = {
        "job_configuration": {"namespace": "{{ namespace }}"},
        "variables": {"properties": {"namespace": {"default": pool_default}}},
    }
    variables = {"namespace": namespace} if namespace else {}
    return RenderInput(
        {}, {}, {"job_variables": variables}, {"base_job_template": template}, worker_name="w"
    )


@pytest.mark.parametrize(
    ("given", "wanted", "chosen"),
    [
        (chosen_by("ml"), "ml", "ml"),
        (chosen_by("etl"), "etl", "etl"),
        (chosen_by(pool_default="finance"), "finance", "finance"),
        (chosen_by(), "default", "etl"),
    ],
    ids=["of the deployment", "the binding's own", "of the pool", "the stock default"],
)
def test_the_run_chooses_among_the_allowed_namespaces(
    given: RenderInput, wanted: str, chosen: str
) -> None:
    assert choose_namespace(wanted, OPEN, given) == chosen


@pytest.mark.parametrize("wanted", ["kube-system", "default"])
def test_another_namespace_ends_the_run_with_the_list(wanted: str) -> None:
    with pytest.raises(RenderError, match="only in etl, finance, ml, got"):
        choose_namespace(wanted, OPEN, chosen_by(wanted))


def test_without_a_list_the_run_cannot_choose() -> None:
    fixed = replace(IDENTITY, namespace="etl")
    assert choose_namespace("ml", fixed, chosen_by("ml")) == "etl"
    assert fixed.fixed_namespace == "etl"
