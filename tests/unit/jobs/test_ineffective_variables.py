"""Job variables without effect are reported with a fix; a run's own pending time-out."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient

from tests.support.prefect import stock_template
from tests.support.subjects import IDENTITY, subject
from workpool_operator.jobs import ineffective_variables
from workpool_operator.jobs.render import render_job
from workpool_operator.kube import models

Object = dict[str, Any]


def with_default(name: str, value: Any) -> Object:
    base = stock_template()
    base["variables"]["properties"][name]["default"] = value
    return base


def notes(*, namespace: str = "", **given: Any) -> list[str]:
    return ineffective_variables.ineffective(subject(**given), namespace=namespace)


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"image": "a", "env.A": "1", "env": {"B": {"valueFrom": {}}}, "labels": {"a": {"b": "c"}}},
        {"namespace": "data", "stream_output": False, "job_watch_timeout_seconds": None},
    ],
    ids=str,
)
def test_variables_with_an_effect_are_not_reported(run: Object) -> None:
    assert notes(run=run, namespace="data") == []


def test_a_variable_that_no_placeholder_uses_is_reported_with_a_similar_name() -> None:
    first, second = notes(run={"cpu_limits": 1}, deployment={"x": {"a": 1, "b": [2]}})
    assert first == ("Job variable x has no effect: no placeholder of the pool's template uses it.")
    assert second.endswith("uses it (did you mean cpu_limit?).")


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ({"resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}, "cpu_request, memory_request"),
        ({"resources.limits.memory": "1Gi"}, "memory_limit"),
        ({"serviceAccountName": "etl"}, "service_account_name"),
    ],
)
def test_a_field_of_the_manifest_is_reported_with_the_variables_behind_it(
    given: Object, instead: str
) -> None:
    [text] = notes(deployment=given)
    assert text.startswith(f"Job variable {next(iter(given)).partition('.')[0]} has no effect")
    assert text.endswith(f"uses it; set {instead} instead.")


def test_an_unused_part_of_a_variable_is_reported() -> None:
    base = stock_template()
    pod = base["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = "{{ build.image }}:{{ build.tags[0] }}"
    build = {"image": "flows", "tags": ["1"], "user": {"id": 5}}
    [text] = notes(base=base, run={"build": build})
    assert text.startswith("Job variable build.user.id has no effect")
    assert notes(base=base, run={"build": {"image": "a"}, "build.tags": ["b"]}) == []


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"job_watch_timeout_seconds": 60}, ["has no effect", "activeDeadlineSeconds"]),
        ({"stream_output": True}, ["has no effect", "kubectl logs"]),
        ({"pod_watch_timeout_seconds": 120}, ["120 s", "spec.jobs.pendingTimeoutSeconds"]),
        (
            {"pod_watch_timeout_seconds": "soon"},
            ["'soon' has no effect", "expected a number of seconds"],
        ),
        ({"namespace": "team-b"}, ["'team-b' has no effect", "'data'", "spec.jobs.namespace"]),
    ],
)
def test_variables_for_the_stock_worker_alone_are_reported_with_their_replacement(
    run: Object, words: list[str]
) -> None:
    [text] = notes(run=run, namespace="data")
    assert all(word in text for word in words), text


def test_the_variable_namespace_counts_without_a_binding() -> None:
    assert notes(run={"namespace": "team-b"}) == []


def test_values_of_a_template_without_effect_are_reported_with_their_path() -> None:
    assert list(ineffective_variables.ineffective_in_template(stock_template())) == []
    for name, value in (
        ("job_watch_timeout_seconds", 60),
        ("pod_watch_timeout_seconds", 120),
        ("namespace", "team-b"),
    ):
        [remark] = ineffective_variables.ineffective_in_template(with_default(name, value))
        assert remark.path == ("variables", "properties", name, "default")
        fixed = stock_template()
        fixed["job_configuration"][name] = value
        [remark] = ineffective_variables.ineffective_in_template(fixed)
        assert remark.path == ("job_configuration", name)


def test_of_many_variables_only_some_are_listed() -> None:
    assert len(notes(run={f"x{number}": 1 for number in range(500)})) == 11


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, None),
        ({"base": with_default("pod_watch_timeout_seconds", 60)}, None),
        ({"base": with_default("pod_watch_timeout_seconds", 1200)}, 1200),
        ({"run": {"pod_watch_timeout_seconds": 60}}, 60),
        ({"deployment": {"pod_watch_timeout_seconds": "90"}}, 90),
        ({"deployment": {"pod_watch_timeout_seconds": 90}, "run": {"image": "a"}}, 90),
        ({"run": {"pod_watch_timeout_seconds": None}}, None),
        ({"run": {"pod_watch_timeout_seconds": 0}}, None),
        ({"run": {"pod_watch_timeout_seconds": True}}, None),
        ({"run": {"pod_watch_timeout_seconds": 10**9}}, None),
    ],
    ids=str,
)
async def test_pod_watch_timeout_seconds_is_the_pending_time_out_if_it_is_set_on_purpose(
    given: Object, seconds: int | None
) -> None:
    assert subject(**given).pending_timeout == seconds
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        rendered = await render_job(subject(**given), IDENTITY, client=client)
    recorded = rendered.manifest["metadata"]["annotations"].get(models.PENDING_TIMEOUT_ANNOTATION)
    assert recorded == (None if seconds is None else str(seconds))
