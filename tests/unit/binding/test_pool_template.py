"""The template that a binding names for its pool: how it is read, what is wrong with it, and when
the pool gets it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.templates import default_template
from workpool_operator.binding import pool_template
from workpool_operator.binding.pool_template import Comparison, Template, Verdict, decide
from workpool_operator.jobs.configuration import default_base_job_template

SOURCE = "key 'template' of ConfigMap 'etl'"


def parse(text: str) -> Template:
    return pool_template.parse(text, source=SOURCE)


def changed(**parts: Any) -> str:
    return json.dumps({**default_base_job_template(), **parts})


def without_variable(name: str, *, but: str) -> str:
    properties = default_base_job_template()["variables"]["properties"]
    properties[but] = properties.pop(name)
    return changed(variables={"properties": properties})


def test_our_own_template_is_that_of_a_new_pool_of_our_type_and_has_no_errors() -> None:
    ours = default_base_job_template()
    assert ours == default_template()
    assert parse(json.dumps(ours)).errors == []


def test_json_and_yaml_are_read_alike_and_have_one_digest_in_any_order() -> None:
    in_json = parse('{"variables": {"properties": {}}, "job_configuration": {"name": "a"}}')
    in_yaml = parse("job_configuration: {name: a}\nvariables:\n  properties: {}\n")
    assert in_json.document == in_yaml.document
    assert in_json.digest == in_yaml.digest
    assert len(in_json.digest) == 16
    other = parse("job_configuration: {name: b}\nvariables:\n  properties: {}\n")
    assert other.digest != in_json.digest


def test_a_value_is_what_prefect_stores() -> None:
    found = parse("variables: {1: 2026-01-01}\njob_configuration: {}\n")
    assert found.document["variables"] == {"1": "2026-01-01"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": [1 2}', r"is not valid JSON: expecting ',' delimiter \(line 1, column 10\)"),
        ("a: [1", r"is not valid YAML or JSON: .* \(line 2, column 1\)"),
        ("{{ .Values.template }}", "looks like a Helm template"),
        ("", "is not one mapping"),
        ("[]", "is not one mapping"),
        ("a: 1\n---\na: 2\n", "is not one mapping"),
        ("a: .nan", "cannot be stored as JSON: Out of range float"),
    ],
)
def test_a_text_that_is_no_template_is_refused_with_the_place(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (changed(variables={}), "variables: expected a mapping with at least one"),
        (changed(job_configuration={"name": "a"}), "job_configuration.job_manifest: expected "),
        (
            without_variable("image", but="imag"),
            "containers[0].image: expected a variable that the template declares (did you mean "
            "imag?), got '{{ image }}'",
        ),
    ],
    ids=("no variables", "no manifest", "a placeholder without a variable"),
)
def test_what_the_operator_or_prefect_would_refuse_is_named_with_its_path(
    text: str, error: str
) -> None:
    assert error in "; ".join(parse(text).errors)


def test_of_many_errors_the_first_three_are_listed() -> None:
    errors = parse(changed(variables={"properties": {"none": {}}})).errors
    assert len(errors) == 4
    assert errors[-1].endswith(" more")


# The comparison of the three templates


@pytest.mark.parametrize(
    ("wanted", "actual", "base", "when_off", "when_on"),
    [
        ("a", "a", "a", "SYNCED", "SYNCED"),
        ("a", "a", "", "SYNCED", "SYNCED"),  # it was so before
        ("b", "b", "a", "SYNCED", "SYNCED"),  # the same change in both: nothing is left to do
        ("b", "a", "a", "OUT_OF_SYNC", "UPDATE"),  # the ConfigMap changed
        ("a", "b", "a", "DRIFTED", "DRIFTED"),  # the pool changed
        ("c", "b", "a", "DRIFTED", "DRIFTED"),  # both changed
        ("a", "b", "", "OUT_OF_SYNC", "OUT_OF_SYNC"),  # it is unknown whose the pool's is
    ],
)
def test_a_template_is_updated_only_if_the_configmap_alone_changed(
    wanted: str, actual: str, base: str, when_off: str, when_on: str
) -> None:
    for syncs, verdict in ((False, when_off), (True, when_on)):
        found = Comparison(wanted=wanted, actual=actual, base=base, syncs=syncs)
        assert decide(found).name == verdict


@pytest.mark.parametrize("base", ["", "a"])
def test_a_change_in_prefect_is_overwritten_if_somebody_allowed_exactly_this_one(base: str) -> None:
    def verdict(*, overwrite: str, syncs: bool = True) -> Verdict:
        found = Comparison(wanted="c", actual="b", base=base, syncs=syncs, overwrite=overwrite)
        return decide(found)

    assert verdict(overwrite="b") is Verdict.UPDATE
    assert verdict(overwrite="d") is not Verdict.UPDATE
    assert verdict(overwrite="b", syncs=False) is not Verdict.UPDATE


def test_a_difference_is_shown_with_its_paths_and_the_command_that_discards_it() -> None:
    wanted = Template({"variables": {"a": [1, 2], "b": 1, "c": True}}, SOURCE)
    actual = {"variables": {"a": [1, 3], "b": 1.0, "d": {}}}
    found = pool_template.compare(wanted, actual, base="a", syncs=True, overwrite="")
    state = pool_template.template_synced(found, pool="etl", source=SOURCE, binding="data/wpb")
    assert (state.status, state.reason) == ("False", "Drifted")
    assert f"{SOURCE} at variables.a[1], variables.b, variables.c. " in state.message
    assert state.message.endswith(
        "kubectl -n data annotate wpb wpb --overwrite "
        f"workpool-operator.dev/overwrite-template={found.actual}"
    )
    assert found.actual == Template(actual, "").digest
    off = pool_template.compare(wanted, actual, base="", syncs=False, overwrite="")
    state = pool_template.template_synced(off, pool="etl", source=SOURCE, binding="data/wpb")
    assert (state.status, state.reason) == ("False", "OutOfSync")
    assert "set spec.workPool.syncPolicy to IfUnchanged" in state.message
