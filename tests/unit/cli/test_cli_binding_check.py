"""Bindings are checked offline; tests/contract/test_validate_command.py compares with a server."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import cel
import pytest

from workpool_operator.api import crd
from workpool_operator.cli import binding_check

SPEC = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect:4200/api"}}
ID = "1ab2c3d4-0000-4000-8000-000000000000"
UUID = "1f0a2b3c-0000-4000-8000-00000000000a"
SECRET = {"secretKeyRef": {"name": "prefect", "key": "api-key"}}


def manifest(metadata: Any = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "workpool-operator.dev/v1alpha1",
        "kind": "WorkPoolBinding",
        "metadata": {"name": "etl"} if metadata is None else metadata,
        "spec": {key: part for key, part in {**copy.deepcopy(SPEC), **spec}.items() if part != ...},
    }


def check(metadata: Any = None, **spec: Any) -> list[str]:
    found = binding_check.check(manifest(metadata, **spec))
    return [f"{each.path_text}: {each.message}" for each in found]


def rules(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (each["rule"] for each in schema.get("x-kubernetes-validations", ()))
        for part in schema.values():
            yield from rules(part)


def test_every_rule_of_the_crd_can_be_evaluated():
    everything = {
        "workPool": {"name": "x"},
        "server": {"url": "x", "apiKey": {}, "authString": {}},
        "jobs": {"namespace": "x", "apiKey": {}, "authString": {}},
    }
    found = set(rules(crd.schema()))
    assert len(found) > 8
    for rule in found:
        value: Any = "text" if "self.matches" in rule else everything
        value = {"key": "text"} if "key.matches" in rule or "self[key]" in rule else value
        value = 5 if re.search(r"self [=<>]=? \d", rule) else value
        assert cel.evaluate(rule, {"self": value, "oldSelf": value}) in (True, False), rule


def test_every_keyword_of_the_schema_is_checked():
    ignored = {"description", "default", "x-kubernetes-list-map-keys", "format"}
    ignored |= {"x-kubernetes-preserve-unknown-fields", "messageExpression"}

    def keywords(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from schema
            for name, part in schema.items():
                parts = part.values() if name == "properties" else [part]
                yield from (word for each in parts for word in keywords(each))

    known = set(binding_check._KEYWORDS) | ignored | {"items", "rule", "message", "fieldPath"}
    assert set(keywords(crd.schema()["properties"]["spec"])) - known == set()


def test_a_good_binding_has_no_findings():
    assert check() == []
    assert check(server={**SPEC["server"], "apiKey": SECRET}, jobs=None, poll=None) == []
    assert check(metadata={"generateName": "etl-"}) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"workpool": {}}, "spec.workpool: unknown field (did you mean workPool?)"),
        (
            {"server": ...},
            "spec.server: exactly one of url, urlFrom, cloud and ref is needed: it names the "
            "Prefect API",
        ),
        (
            {"server": {**SPEC["server"], "ref": {"name": "prefect"}}},
            "spec.server: exactly one of url, urlFrom, cloud and ref is needed: it names the "
            "Prefect API",
        ),
        (
            {"workPool": {"ref": {"name": "etl"}}},
            "spec.server: workPool.ref names the server: leave url, urlFrom, cloud and ref out",
        ),
        (
            {"jobs": {"labels": {"team": "a", "workpool-operator.dev/run": "x"}}},
            "spec.jobs.labels: workpool-operator.dev/run: is reserved for the operator: choose "
            "another prefix",
        ),
        (
            {"jobs": {"labels": {"team": "a b"}}},
            "spec.jobs.labels: team: must have the value of a label: letters, digits, -, _ and .",
        ),
        (
            {"jobs": {"labels": {"team": 5}}},
            "spec.jobs.labels.team: must be a string, is a number",
        ),
        (
            {"jobs": {"annotations": {"prefect.io/flow-run-id": "x"}}},
            "spec.jobs.annotations: prefect.io/flow-run-id: is reserved for the operator: choose "
            "another prefix",
        ),
        (
            {"jobs": {"env": [{"name": "PREFECT_API_URL", "value": "http://other/api"}]}},
            "spec.jobs.env[0].name: 'PREFECT_API_URL' is set by the operator: use serverURL, "
            "apiKey, authString, headers or caBundle of spec.jobs, or spec.server",
        ),
        (
            {"jobs": {"env": [{"name": "A"}, {"name": "B"}, {"name": "A", "value": "x"}]}},
            "spec.jobs.env[2]: duplicate item 'A': remove one of the two",
        ),
        (
            {"jobs": {"env": [{"name": "A", "valueFrom": {}}]}},
            "spec.jobs.env[0].valueFrom: set exactly one of secretKeyRef, configMapKeyRef, "
            "fieldRef and resourceFieldRef",
        ),
        (
            {"jobs": {"patches": [{"op": "add", "path": "/spec/suspend"}]}},
            "spec.jobs.patches[0].value: is required for add",
        ),
        (
            {"jobs": {"patches": [{"op": "remove", "path": "spec"}]}},
            "spec.jobs.patches[0].path: 'spec' must be a JSON pointer below the Job, such as "
            "/spec/template/spec/priorityClassName",
        ),
        (
            {"workPool": {"name": "etl", "ref": {"name": "etl"}}, "server": {}},
            "spec.workPool: exactly one of name and ref is needed: it names the work pool",
        ),
        (
            {"server": {"cloud": {"accountID": "a", "workspaceID": UUID}, "apiKey": SECRET}},
            "spec.server.cloud.accountID: 'a' must be an id as in the address of Prefect Cloud: "
            "8-4-4-4-12 hexadecimal digits",
        ),
        (
            {"server": {"cloud": {"accountID": UUID, "workspaceID": UUID}}},
            "spec.server: cloud requires an API key: set apiKey.secretKeyRef",
        ),
        ({"server": {"url": 5}}, "spec.server.url: must be a string, is a number"),
        ({"suspend": "yes"}, "spec.suspend: must be true or false, is a string"),
        ({"concurrencyLimit": 0}, "spec.concurrencyLimit: must be at least 1, is 0"),
        ({"concurrencyLimit": 1.5}, "spec.concurrencyLimit: must be an integer, is a number"),
        (
            {"workQueues": ["a", "b", "a"]},
            "spec.workQueues[2]: duplicate item 'a': remove one of the two",
        ),
        (
            {"workQueues": []},
            "spec.workQueues: name a queue, or leave workQueues out to serve all queues",
        ),
        (
            {"workPool": {"name": "etl", "type": "kubernets"}},
            "spec.workPool.type: must be kubernetes or kubernetes-operator, is 'kubernets' "
            "(did you mean kubernetes?)",
        ),
        (
            {"workPool": {"name": "a" * 201}},
            "spec.workPool.name: must have at most 200 characters, has 201",
        ),
        (
            {"workPool": {"name": "prefect-pool"}},
            "spec.workPool.name: 'prefect-pool' is reserved: Prefect does not allow work pools "
            "whose name starts with 'prefect'",
        ),
        (
            {"server": {**SPEC["server"], "apiKey": SECRET, "authString": SECRET}},
            "spec.server: apiKey and authString exclude each other: keep the one your server uses",
        ),
    ],
)
def test_an_error_names_the_path_the_value_and_what_is_expected(changes, expected):
    assert check(**changes) == [expected]


def test_one_error_does_not_hide_another():
    found = check(workPool={"name": "a/b"}, server={}, poll={"intervalSeconds": 0}, suspend=None)
    paths = {text.partition(": ")[0] for text in found}
    assert paths == {"spec.workPool.name", "spec.server", "spec.poll.intervalSeconds"}


def test_a_credential_in_plain_text_is_never_printed():
    found = check(server={"url": "http://me:pw-1@x/api", "apiKey": "pnu_1234"})
    assert "spec.server.apiKey: must be a mapping with secretKeyRef, is a string" in found
    assert any("contains a user and password" in text for text in found)
    assert not any("pnu_1234" in text or "pw-1" in text for text in found)
    [first] = check(server={"url": "ftp://me:pw-1@x/api"})[:1]
    assert "pw-1" not in first


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "metadata.name: is required"),
        ([], "metadata: is required: at least a name"),
        ({"name": "Etl_1"}, "metadata.name: 'Etl_1' is not a name of at most 253 lower"),
        ({"name": 5}, "metadata.name: 5 is not a name of at most 253 lower"),
        (
            {"name": "etl", "labels": {"tier": 1}},
            "metadata.labels.tier: must be a string, is 1: quote it",
        ),
        (
            {"name": "etl", "labels": {"a b": "c"}},
            "metadata.labels[\"a b\"]: 'a b' is not a label key",
        ),
        (
            {"name": "etl", "labels": {"a": "b c"}},
            "metadata.labels.a: 'b c' is not a label value",
        ),
        (
            {"name": "etl", "annotations": {"/": "b"}},
            "metadata.annotations[\"/\"]: '/' is not a label key",
        ),
        (
            {"name": "etl", "namespace": "Data_1"},
            "metadata.namespace: 'Data_1' is not a name of at most 63 lower",
        ),
    ],
)
def test_the_metadata_is_checked_too(metadata, expected):
    [found] = check(metadata=metadata)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("spec", "path", "warning"),
    [
        (
            {"server": {"url": "http://prefect:4200"}},
            "spec.server.url",
            "at http://prefect:4200/api",
        ),
        ({"server": {"url": "http://localhost:4200/api"}}, "spec.server.url", "the pod itself"),
        (
            {"server": {"url": "https://app.prefect.cloud/account/x"}, "jobs": {}},
            "spec.server.url",
            "Prefect Cloud's UI",
        ),
        (
            {"server": SPEC["server"], "jobs": {"serverURL": "http://127.0.0.1:4200/api"}},
            "spec.jobs.serverURL",
            "the pod itself",
        ),
        (
            {"server": {"url": f"https://api.prefect.cloud/api/accounts/{ID}/workspaces/{ID}"}},
            "spec.server",
            "Prefect Cloud needs an API key: set server.apiKey",
        ),
    ],
)
def test_an_address_that_is_unlikely_to_work_is_a_warning(spec, path, warning):
    found = {each.path_text: each for each in binding_check.check(manifest(**spec))}
    assert found[path].severity == "warning"
    assert warning in found[path].message


def test_prefect_cloud_with_an_api_key_gives_no_warning():
    url = f"https://api.prefect.cloud/api/accounts/{ID}/workspaces/{ID}"
    assert check(server={"url": url, "apiKey": SECRET}) == []
