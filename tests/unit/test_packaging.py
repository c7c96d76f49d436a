"""The chart, the manifests and the package agree with the code and with each other."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from packaging.requirements import Requirement
from packaging.version import Version

from localnode import commands
from localnode.errors import SetupError
from testbed import generated
from testbed.state import CHECKOUT
from workpool_operator.kube import rights
from workpool_operator.kube.rights import Permission, Scope

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
    del schema["properties"]["global"]  # a parent chart may have more there
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


DOCKERFILES = ("Dockerfile", "testbed/images/run.Dockerfile", "testbed/images/rootful.Dockerfile")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing_in_a_dockerfile(name):
    hadolint = Path(sys.executable).with_name("hadolint")
    assert commands.run([hadolint, "--no-color", CHECKOUT / name]) == ""


def test_hadolint_would_find_a_fault(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp\n")
    hadolint = Path(sys.executable).with_name("hadolint")
    with pytest.raises(SetupError, match="SC2164"):
        commands.run([hadolint, "--no-color", tmp_path / "Dockerfile"])


def test_every_value_of_the_chart_is_in_its_schema_and_described():
    schema = json.loads(generated.VALUES_SCHEMA.read_text())["properties"]
    values = yaml.safe_load((generated.CHART / "values.yaml").read_text())
    assert set(values) == set(schema)


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


def roles() -> dict[str, list[dict[str, Any]]]:
    documents = yaml.safe_load_all((BASE / "rbac.yaml").read_text())
    return {d["metadata"]["name"]: d["rules"] for d in documents if d["kind"].endswith("Role")}


def granted(*names: str) -> set[Permission]:
    return {
        (verb, group, resource)
        for name in names
        for rule in roles()[name]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_manifests_grant_every_right_of_the_table_and_no_other():
    needed = {permission for rule in rights.RULES for permission in rule.permissions}
    assert granted(*roles()) == needed


def test_no_right_is_a_wildcard_and_secrets_are_listed_only_where_they_are_written():
    for rule in rights.RULES:
        assert "*" not in (rule.group, rule.resource, *rule.verbs)
        if rule.resource in ("secrets", "configmaps") and rule.scope is not Scope.SECRETS:
            assert rule.verbs == ("get",)


def test_the_role_that_writes_secrets_is_not_bound_by_default():
    documents = list(yaml.safe_load_all((BASE / "rbac.yaml").read_text()))
    bound = {d["roleRef"]["name"] for d in documents if d["kind"].endswith("RoleBinding")}
    assert bound == {"workpool-operator", "workpool-operator-replicas"}


def test_the_only_objects_that_the_operator_may_write_everywhere_are_bindings():
    read = {"get", "list", "watch"}
    written = {thing for verb, _, thing in granted("workpool-operator") if verb not in read}
    assert written == {"workpoolbindings", "workpoolbindings/status"}
    reached = {resource for _, _, resource in granted("workpool-operator")}
    assert reached == written | {"leases", "namespaces"}
