"""A run's environment in a Secret: the container gets the same values as without one."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool_operator.errors import RenderError
from workpool_operator.jobs.secrets import JobWithSecret, extract_environment

REFERENCE = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "own", "key": "token"}}}
LABELS = {"workpool-operator.dev/claim-id": "c", "prefect.io/flow-name": "f"}


def job(*env: Any, sidecar: list | None = None) -> dict:
    containers = [{"name": "prefect-job", "env": list(env)}]
    if sidecar is not None:
        containers.append({"name": "proxy", "env": sidecar})
    metadata = {"name": "run-1", "labels": LABELS, "annotations": {"prefect.io/flow-run-id": "r"}}
    return {"metadata": metadata, "spec": {"template": {"spec": {"containers": containers}}}}


def variable(name: str, value: str) -> dict:
    return {"name": name, "value": value}


def env_of(detached: JobWithSecret) -> list[dict]:
    entries: list[dict] = detached.job["spec"]["template"]["spec"]["containers"][0]["env"]
    return entries


def test_case_48_plain_values_move_and_everything_else_keeps_its_position():
    empty, refers = variable("EMPTY", ""), variable("URL", "postgres://$(TOKEN)@db")
    detached = extract_environment(
        job(variable("A", "1"), REFERENCE, empty, refers, variable("B", "2"))
    )
    assert detached.secret is not None
    assert detached.secret["stringData"] == {"A": "1", "B": "2"}
    moved = {"secretKeyRef": {"name": "run-1-env", "key": "A"}}
    assert env_of(detached)[:4] == [{"name": "A", "valueFrom": moved}, REFERENCE, empty, refers]
    assert [entry["name"] for entry in env_of(detached)] == ["A", "TOKEN", "EMPTY", "URL", "B"]


def test_the_secret_is_labelled_with_its_run_and_waits_for_its_job():
    secret = extract_environment(job(variable("A", "1"))).secret
    assert secret is not None
    assert secret["metadata"]["name"] == "run-1-env"
    assert secret["metadata"]["labels"] == {
        "workpool-operator.dev/claim-id": "c",
        "workpool-operator.dev/secret": "environment",
        "workpool-operator.dev/waits-for-job": "true",
        "app.kubernetes.io/managed-by": "workpool-operator",
    }
    assert secret["metadata"]["annotations"] == {"prefect.io/flow-run-id": "r"}


def test_case_48_without_plain_values_there_is_no_secret():
    original = job(REFERENCE, variable("EMPTY", ""))
    assert extract_environment(original) == JobWithSecret(original, None)


def test_values_larger_than_a_secret_are_refused_with_their_size():
    values = [variable(f"V{number}", "x" * 100_000) for number in range(11)]
    assert extract_environment(job(*values[:10])).secret is not None
    with pytest.raises(RenderError) as caught:
        extract_environment(job(*values))
    assert str(caught.value).startswith("job_manifest.spec.template.spec.containers[0].env: ")
    assert "at most 1,048,576 bytes" in str(caught.value)
    assert "got 1,100,000 bytes" in str(caught.value)


def test_sidecars_and_the_given_job_are_untouched():
    original = job(variable("A", "1"), sidecar=[variable("B", "2")])
    before = copy.deepcopy(original)
    detached = extract_environment(original)
    assert original == before
    sidecar = detached.job["spec"]["template"]["spec"]["containers"][1]
    assert sidecar == {"name": "proxy", "env": [variable("B", "2")]}


def test_no_value_is_in_a_repr():
    assert "4711" not in repr(extract_environment(job(variable("A", "4711"))))


def test_names_that_cannot_be_keys_get_distinct_keys():
    names = ["..", "a b", "a_b", "ü", "x" * 300, "x" * 299 + "y"]
    detached = extract_environment(job(*(variable(name, name) for name in names)))
    assert detached.secret is not None
    assert sorted(detached.secret["stringData"].values()) == sorted(names)
    for key in detached.secret["stringData"]:
        assert re.fullmatch(r"[-_a-zA-Z0-9][-._a-zA-Z0-9]{0,252}", key), key


NAMES = st.sampled_from(["A", "B", "C", "a b"])
VALUES = st.text(alphabet=st.sampled_from("$()ABC x"), max_size=8)


@given(st.lists(st.builds(variable, NAMES, VALUES), max_size=6))
def test_a_container_sees_the_same_values_as_without_a_secret(env: list[dict]):
    detached = extract_environment(job(*env))
    data = detached.secret["stringData"] if detached.secret else {}
    assert kubelet(env_of(detached), data) == kubelet(env, {})


def kubelet(env: list[dict], secret: dict[str, str]) -> dict[str, str]:
    """Do what the kubelet's `makeEnvironmentVariables` does: expand only plain values."""
    known: dict[str, str] = {}
    for entry in env:
        if entry.get("value"):
            known[entry["name"]] = expanded(entry["value"], known)
        elif "valueFrom" in entry:
            known[entry["name"]] = secret[entry["valueFrom"]["secretKeyRef"]["key"]]
        else:
            known[entry["name"]] = ""
    return known


def expanded(text: str, known: dict[str, str]) -> str:
    """Do what Kubernetes' `expansion.Expand` does."""
    done, at = "", 0
    while at < len(text):
        rest = text[at + 1 :]
        if text[at] != "$" or not rest:
            done, at = done + text[at], at + 1
        elif rest[0] == "$":
            done, at = done + "$", at + 2
        elif rest[0] == "(" and ")" in rest:
            name = rest[1 : rest.index(")")]
            done, at = done + known.get(name, f"$({name})"), at + len(name) + 3
        else:
            done, at = done + "$" + rest[0], at + 2
    return done
