"""The chart, the manifests and the package agree with the code and with each other."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from packaging.requirements import Requirement
from packaging.version import Version

from testbed import generated
from testbed.state import CHECKOUT

BASE = CHECKOUT / "manifests" / "base"
Schema = dict[str, Any]


def test_generated_files_are_current():
    assert generated.outdated() == [], "run 'make crd'"


def objects(schema: Any) -> Iterator[Schema]:
    """Yield every object of a JSON schema that has fields."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    if isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def test_the_values_schema_refuses_unknown_fields_at_every_level():
    schema = json.loads(generated.VALUES_SCHEMA.read_text())
    assert [
        found for found in objects(schema) if found.get("additionalProperties") is not False
    ] == []


SERVER = {"url": "http://prefect:4200/api"}
SECRET = {"secretKeyRef": {"name": "prefect", "key": "key"}}


@pytest.mark.parametrize(
    "change",
    [
        {"server": {"url": "foo"}},
        {"server": {}},
        {"server": {**SERVER, "apiKey": SECRET, "authString": SECRET}},
        {"server": {**SERVER, "apiKey": {"secretKeyRef": {"name": "A", "key": "b"}}}},
        {"workPool": {"name": "prefect-x"}},
        {"workPool": {"name": "Prefect-x"}},
        {"workPool": {"name": "a/b"}},
        {"workQueues": []},
        {"workQueues": ["a%b"]},
        {"jobs": {"namespace": "Data_1"}},
        {"jobs": {"serverURL": "ftp://x"}},
        {"jobs": {"apiKey": SECRET, "authString": SECRET}},
    ],
)
def test_the_values_schema_refuses_what_the_crd_refuses(change):
    schema = json.loads(generated.VALUES_SCHEMA.read_text())["definitions"]["spec"]
    spec = {"workPool": {"name": "my-prefect-x"}, "server": SERVER, "workQueues": ["a"]}
    validator = Draft7Validator(schema)
    assert validator.is_valid(spec)
    assert not validator.is_valid(spec | change)


def test_the_patterns_of_the_values_schema_work_in_editors():
    assert "(?" not in json.dumps(json.loads(generated.VALUES_SCHEMA.read_text()))


@pytest.mark.parametrize(
    ("extra", "distribution", "lock"),
    [
        ("client", "prefect-client", "requirements.lock"),
        ("worker", "prefect", "requirements-dev.lock"),
        ("worker", "prefect", "requirements-peer.lock"),
        ("worker", "prefect", "testbed/images/run.lock"),
    ],
)
def test_prefect_is_capped_at_the_minor_version_that_is_locked_everywhere(
    extra, distribution, lock
):
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    (requirement,) = map(Requirement, project["optional-dependencies"][extra])
    assert requirement.name == distribution
    (locked,) = re.findall(rf"^{distribution}==(\S+)", (CHECKOUT / lock).read_text(), re.M)
    version = Version(locked)
    assert locked == metadata.version("prefect")
    assert version in requirement.specifier
    assert f"{version.major}.{version.minor + 1}" not in requirement.specifier


def test_only_the_extras_name_prefect_of_which_an_environment_has_one_distribution():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert not [each for each in project["dependencies"] if "prefect" in each]
    locked = re.findall(r"^prefect[a-z-]*", (CHECKOUT / "requirements.lock").read_text(), re.M)
    assert locked == ["prefect-client"]


def test_every_value_of_the_chart_is_in_its_schema_and_described():
    schema = json.loads(generated.VALUES_SCHEMA.read_text())["properties"]
    values = yaml.safe_load((generated.CHART / "values.yaml").read_text())
    assert set(values) == set(schema) - {"global"}


def test_chart_package_and_manifests_have_one_version():
    chart = yaml.safe_load((generated.CHART / "Chart.yaml").read_text())
    project = (CHECKOUT / "pyproject.toml").read_text()
    base = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in project
    assert [image["newTag"] for image in base["images"]] == [chart["appVersion"]]


def manifest(file: str, kind: str, name: str = "workpool-operator") -> dict[str, Any]:
    documents = yaml.safe_load_all((BASE / file).read_text())
    return next(d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, name))


def test_the_operators_pod_meets_the_restricted_pod_security_standard():
    pod = manifest("deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_an_update_starts_a_replica_before_it_stops_one_and_a_drain_stops_one_at_a_time():
    spec = manifest("deployment.yaml", "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = manifest("poddisruptionbudget.yaml", "PodDisruptionBudget")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": spec["selector"]}


@pytest.mark.parametrize("name", ["workpool-operator", "workpool-operator-jobs"])
def test_no_role_has_a_wildcard_or_a_right_to_write_secrets(name):
    for rule in manifest("rbac.yaml", "ClusterRole", name)["rules"]:
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert not {"secrets", "configmaps"} & {*rule["resources"]} or rule["verbs"] == ["get"]


def test_the_role_that_writes_secrets_is_not_bound_by_default():
    (rule,) = manifest("rbac.yaml", "ClusterRole", "workpool-operator-secrets")["rules"]
    assert rule["resources"] == ["secrets"]
    assert not {"get", "watch", "update", "*"} & set(rule["verbs"])
    documents = list(yaml.safe_load_all((BASE / "rbac.yaml").read_text()))
    bound = {d["roleRef"]["name"] for d in documents if d["kind"].endswith("RoleBinding")}
    assert bound == {"workpool-operator"}


def test_without_a_rolebinding_the_operator_reaches_no_secret_and_no_job():
    rules = manifest("rbac.yaml", "ClusterRole")["rules"]
    reached = {resource for rule in rules for resource in rule["resources"]}
    bindings = {"workpoolbindings", "workpoolbindings/status", "leases"}
    assert reached == bindings | {"events", "namespaces"}


def told_rights() -> set[tuple[str, str, str]]:
    """Role, resource and verb, as the table of docs/security.md has them."""
    text = (CHECKOUT / "docs" / "security.md").read_text()
    rows = re.findall(
        r"^\| `(workpool-operator[a-z-]*)` \| `([a-z/]+)` \| ([a-z, ]+) \|", text, re.M
    )
    return {(role, thing, verb) for role, thing, verbs in rows for verb in verbs.split(", ")}


def test_the_page_on_security_lists_exactly_the_rights_of_the_operator():
    documents = yaml.safe_load_all((BASE / "rbac.yaml").read_text())
    given = {
        (role["metadata"]["name"], thing, verb)
        for role in documents
        for rule in role.get("rules", [])
        for thing in rule["resources"]
        for verb in rule["verbs"]
    }
    assert told_rights() == given
