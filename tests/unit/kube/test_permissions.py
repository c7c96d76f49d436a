"""Which rights the operator lacks, and the advice how to grant them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import cast

import pytest
import yaml

from testbed.state import CHECKOUT
from workpool_operator import settings
from workpool_operator.kube import permissions
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.models import ResourceRule, Rights
from workpool_operator.kube.rights import Permission

NO_CLUSTER = cast("KubernetesClient", None)  # no request is sent


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets what a release of the chart passes to the operator."""
    read = settings.helm_release, settings.helm_watch_namespaces, settings.helm_job_namespaces

    def set_(*, watched: str = "", jobs: str = "") -> None:
        values = {"RELEASE": "home/etl", "WATCH_NAMESPACES": watched, "JOB_NAMESPACES": jobs}
        for name, value in values.items():
            monkeypatch.setenv(f"WORKPOOL_OPERATOR_HELM_{name}", value)
        for setting in read:
            setting.cache_clear()

    yield set_
    monkeypatch.undo()
    for setting in read:
        setting.cache_clear()


@pytest.mark.parametrize(
    ("role", "change"),
    [
        (permissions.JOBS_ROLE, 'set jobNamespaces to ["flows", "home", "runs"]'),
        (permissions.BINDINGS_ROLE, 'set watchNamespaces to ["home", "runs"]'),
        (permissions.FOLLOW_BINDINGS_ROLE, 'set watchNamespaces to ["home", "runs"]'),
        (
            permissions.WRITE_SECRETS_ROLE,
            'set writeSecrets to true and jobNamespaces to ["flows", "home", "runs"]',
        ),
        (
            permissions.REPLICAS_ROLE,
            "set rbac.create to true, which grants rights to Leases in 'runs',",
        ),
    ],
)
async def test_the_advice_names_the_release_and_a_value_that_revokes_nothing(
    role: permissions.Role, change: str, release: Callable[..., None]
) -> None:
    release(watched="home", jobs="home,flows")
    advice = await permissions.how_to_grant(NO_CLUSTER, "runs", role)
    named = "in the values of Helm release 'etl' (namespace 'home') and upgrade it"
    assert advice == f"{change} {named}"


async def test_a_cluster_wide_release_grants_what_a_binding_needs_by_its_job_namespaces(
    release: Callable[..., None],
) -> None:
    release(jobs="a,b")
    for role in (permissions.BINDINGS_ROLE, permissions.JOBS_ROLE):
        advice = await permissions.how_to_grant(NO_CLUSTER, "runs", role)
        assert advice.startswith('set jobNamespaces to ["a", "b", "runs"] in the values')
        assert "upgrade Helm release" in await permissions.how_to_grant(NO_CLUSTER, "a", role)


@pytest.mark.parametrize(
    ("role", "granted"),
    [
        (permissions.JOBS_ROLE, {"jobs": "runs"}),
        (permissions.BINDINGS_ROLE, {"watched": "runs"}),
        (permissions.FOLLOW_BINDINGS_ROLE, {"watched": "runs"}),
    ],
)
async def test_what_the_release_grants_already_comes_back_with_its_upgrade(
    role: permissions.Role, granted: dict[str, str], release: Callable[..., None]
) -> None:
    release(**granted)
    assert await permissions.how_to_grant(NO_CLUSTER, "runs", role) == (
        "upgrade Helm release 'etl' (namespace 'home') with the same values, which restores its "
        "RoleBindings in namespace 'runs': they are missing or were changed"
    )
    advice = await permissions.how_to_grant(NO_CLUSTER, "others", role)
    assert advice.startswith("set ")


class Reviewer:
    """Answers reviews with `rights`, and single ones with True for the verbs in `also`; records the
    single ones."""

    def __init__(self, *rules: ResourceRule, incomplete: bool = False, also: str = "") -> None:
        self._rights = Rights(rules, incomplete=incomplete)
        self._also = also
        self.reviewed: list[str] = []

    async def rights(self, namespace: str) -> Rights:
        return self._rights

    async def allowed(self, namespace: str, *, verb: str, group: str, resource: str) -> bool:
        self.reviewed.append(f"{verb} {resource}")
        return verb in self._also.split()

    async def missing(self, *wanted: Permission) -> list[str]:
        client = cast("KubernetesClient", self)
        return await permissions.missing_permissions(client, "data", wanted)


def rule(verbs: str, groups: str, resources: str, names: str = "") -> ResourceRule:
    """A rule from lists that are separated by spaces; `core` is the core group."""
    of = tuple("" if group == "core" else group for group in groups.split())
    lists = (tuple(verbs.split()), of, tuple(resources.split()), tuple(names.split()))
    return ResourceRule(*lists)


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([], ["create jobs", "get pods/log"]),
        ([rule("create", "batch", "jobs")], ["get pods/log"]),
        ([rule("create get", "batch core", "jobs pods/log")], []),
        ([rule("*", "batch", "*"), rule("get", "*", "*/log")], []),
        ([rule("*", "*", "*")], []),
        ([rule("*", "*", "*/log")], ["create jobs"]),
        ([rule("*", "*", "jobs pods")], ["get pods/log"]),
        ([rule("*", "apps", "*")], ["create jobs", "get pods/log"]),
        ([rule("get list", "batch", "jobs")], ["create jobs", "get pods/log"]),
        ([rule("create", "batch", "jobs", "one two")], ["create jobs", "get pods/log"]),
    ],
)
async def test_a_right_is_missing_unless_a_rule_grants_it_for_every_object(rules, missing):
    reviewer = Reviewer(*rules)
    wanted = (("create", "batch", "jobs"), ("get", "", "pods/log"))
    assert await reviewer.missing(*wanted) == missing
    assert reviewer.reviewed == []  # a complete answer is final


async def test_what_an_incomplete_answer_lacks_is_reviewed_by_itself():
    reviewer = Reviewer(rule("list", "batch", "jobs"), incomplete=True, also="watch")
    wanted = [(verb, "batch", "jobs") for verb in ("list", "watch", "create")]
    assert await reviewer.missing(*wanted) == ["create jobs"]
    assert reviewer.reviewed == ["watch jobs", "create jobs"]


async def test_no_wanted_right_needs_no_review():
    assert await permissions.missing_permissions(NO_CLUSTER, "data", ()) == []


@pytest.mark.parametrize("role", [permissions.FOLLOW_BINDINGS_ROLE, permissions.REPLICAS_ROLE])
async def test_what_the_manifests_grant_by_themselves_needs_no_rolebinding(
    role: permissions.Role,
) -> None:
    advice = await permissions.how_to_grant(NO_CLUSTER, "runs", role)
    assert advice == "apply manifests/base again, which grants it"


class OwnNamespace:
    """The API server, to an operator in namespace `data`."""

    namespace = "data"

    async def request(self, method: str, path: str, *, body: object) -> object:
        user = {"username": "system:serviceaccount:data:workpool-operator"}
        return json.dumps({"status": {"userInfo": user}}).encode()


@pytest.mark.parametrize(
    ("namespace", "role", "advice"),
    [
        (
            "data",
            permissions.WRITE_SECRETS_ROLE,
            "kubectl -n data create rolebinding workpool-operator-secrets "
            "--role=workpool-operator-secrets --serviceaccount=data:workpool-operator",
        ),
        ("data", permissions.JOBS_ROLE, "apply manifests/namespaced again, which grants it"),
        (
            "runs",
            permissions.JOBS_ROLE,
            "install the chart or manifests/base: manifests/namespaced, which this operator was "
            "installed from, grants rights in namespace 'data' only",
        ),
    ],
)
async def test_without_clusterroles_the_advice_names_a_role(
    namespace: str, role: permissions.Role, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "manifests", lambda: "namespaced")
    kube = cast("KubernetesClient", OwnNamespace())
    assert await permissions.how_to_grant(kube, namespace, role) == advice


def test_the_overlay_of_one_namespace_says_that_it_is_one() -> None:
    file = CHECKOUT / "manifests" / "namespaced" / "deployment.yaml"
    (container,) = yaml.safe_load(file.read_text())["spec"]["template"]["spec"]["containers"]
    assert {"name": "WORKPOOL_OPERATOR_MANIFESTS", "value": "namespaced"} in container["env"]
