"""What each value of the chart changes in what Helm renders."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from testbed import chart_values
from testbed.state import CHECKOUT
from tests.support import chart
from tests.support.chart import CHART, SPEC, VARIANTS, Object

BINDING = {"name": "etl", "spec": SPEC}
POD = "spec.template.spec"
OPERATOR = f"{POD}.containers.0"
MONITORED = {"enabled": True, "podMonitor": {"create": True}}
#: Values, an object that they change, a path in it, and what is there.
CHANGES: list[tuple[Object, str, str, Any]] = [
    (
        {"global": {"imageRegistry": "mirror.example/"}, "image": {"registry": "r.example"}},
        "Deployment",
        f"{OPERATOR}.image",
        "mirror.example/workpool-operator:VERSION",
    ),
    (
        {"image": {"registry": "r.example"}},
        "Deployment",
        f"{OPERATOR}.image",
        "r.example/workpool-operator:VERSION",
    ),
    (
        {"image": {"repository": "a/b", "tag": "7"}},
        "Deployment",
        f"{OPERATOR}.image",
        "a/b:7",
    ),
    (
        {"image": {"tag": "7", "digest": f"sha256:{'a' * 64}"}},
        "Deployment",
        f"{OPERATOR}.image",
        f"workpool-operator@sha256:{'a' * 64}",
    ),
    ({"image": {"pullPolicy": "Always"}}, "Deployment", f"{OPERATOR}.imagePullPolicy", "Always"),
    ({"imagePullSecrets": ["a"]}, "Deployment", f"{POD}.imagePullSecrets", [{"name": "a"}]),
    ({"fullnameOverride": "pools"}, "Deployment", "metadata.name", "pools"),
    ({"nameOverride": "pools"}, "Deployment", "metadata.name", "test-pools"),
    (
        {"bindings": [{**BINDING, "annotations": {"a": "b"}, "labels": {"c": "d"}}]},
        "WorkPoolBinding",
        "metadata.annotations",
        {"a": "b"},
    ),
    ({"serviceAccount": {"name": "own"}}, "ServiceAccount", "metadata.name", "own"),
    (
        {"serviceAccount": {"name": "own", "create": False}},
        "Deployment",
        f"{POD}.serviceAccountName",
        "own",
    ),
    (
        {"serviceAccount": {"name": "own", "create": False}},
        "RoleBinding",
        "subjects.0.name",
        "own",
    ),
    (
        {"serviceAccount": {"annotations": {"a": "b"}}},
        "ServiceAccount",
        "metadata.annotations.a",
        "b",
    ),
    (
        {"caBundle": {"secret": "ca"}},
        "Deployment",
        f"{POD}.volumes",
        [{"name": "ca-bundle", "secret": {"secretName": "ca"}}],
    ),
    (
        {"caBundle": {"configMap": "ca", "key": "root.pem"}},
        "Deployment",
        f"{OPERATOR}.env.-1",
        {"name": "SSL_CERT_FILE", "value": "/etc/workpool-operator/ca/root.pem"},
    ),
    (
        {"proxy": {"noProxy": ".svc,10.0.0.0/8"}},
        "Deployment",
        f"{OPERATOR}.env.-1",
        {"name": "NO_PROXY", "value": ".svc,10.0.0.0/8"},
    ),
    ({"extraArgs": ["--x"]}, "Deployment", f"{OPERATOR}.args.-1", "--x"),
    (
        {"extraContainers": [{"name": "more"}]},
        "Deployment",
        f"{POD}.containers.1",
        {"name": "more"},
    ),
    (
        {"initContainers": [{"name": "first"}]},
        "Deployment",
        f"{POD}.initContainers",
        [{"name": "first"}],
    ),
    ({"revisionHistoryLimit": 0}, "Deployment", "spec.revisionHistoryLimit", 0),
    (
        {"terminationGracePeriodSeconds": 60},
        "Deployment",
        f"{POD}.terminationGracePeriodSeconds",
        60,
    ),
    ({"resources": {"limits": {"a/b": 1}}}, "Deployment", f"{OPERATOR}.resources.limits.a/b", 1),
    (
        {"affinity": {"podAffinity": {"a": 1}}},
        "Deployment",
        f"{POD}.affinity",
        {"podAffinity": {"a": 1}},
    ),
    ({"runtimeClassName": "kata"}, "Deployment", f"{POD}.runtimeClassName", "kata"),
    ({"dnsPolicy": "None"}, "Deployment", f"{POD}.dnsPolicy", "None"),
    (
        {"dnsConfig": {"searches": ["a.b"]}},
        "Deployment",
        f"{POD}.dnsConfig",
        {"searches": ["a.b"]},
    ),
    ({"hostAliases": [{"ip": "1.2.3.4"}]}, "Deployment", f"{POD}.hostAliases.0.ip", "1.2.3.4"),
    ({"topologySpreadConstraints": []}, "Deployment", f"{POD}.topologySpreadConstraints", None),
    (
        {"livenessProbe": {"timeoutSeconds": 9}},
        "Deployment",
        f"{OPERATOR}.livenessProbe",
        {"httpGet": {"path": "/healthz", "port": "health"}, "timeoutSeconds": 9},
    ),
    (
        {"tracing": {"enabled": True}},
        "Deployment",
        f"{OPERATOR}.env.-1",
        {"name": "WORKPOOL_OPERATOR_TRACING", "value": "true"},
    ),
    (
        {"tracing": {"enabled": True, "endpoint": "http://otel:4318"}},
        "Deployment",
        f"{OPERATOR}.env.-1",
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"},
    ),
    (
        {"metrics": {"enabled": True, "port": 9100}},
        "Deployment",
        f"{OPERATOR}.ports.-1",
        {"name": "metrics", "containerPort": 9100},
    ),
    (
        {"metrics": {"enabled": True}},
        "Deployment",
        f"{OPERATOR}.env.-1",
        {"name": "WORKPOOL_OPERATOR_METRICS_PORT", "value": "9090"},
    ),
    (
        {"metrics": {"enabled": True}},
        "Service",
        "spec.ports.-1",
        {"name": "metrics", "port": 9090, "targetPort": "metrics"},
    ),
    (
        {"metrics": {"port": 9100}},
        "Service",
        "spec.ports",
        [{"name": "health", "port": 8080, "targetPort": "health"}],
    ),
    (
        {"metrics": {**MONITORED, "token": {"secret": "scrape", "key": "value"}}},
        "Deployment",
        f"{OPERATOR}.env.-1",
        {
            "name": "WORKPOOL_OPERATOR_METRICS_TOKEN_FILE",
            "value": "/etc/workpool-operator/metrics-token/value",
        },
    ),
    (
        {"metrics": {**MONITORED, "token": {"secret": "scrape", "key": "value"}}},
        "PodMonitor",
        "spec.podMetricsEndpoints.0.authorization.credentials",
        {"name": "scrape", "key": "value"},
    ),
    (
        {"metrics": {**MONITORED, "tlsSecret": "certificate"}},
        "PodMonitor",
        "spec.podMetricsEndpoints.0.tlsConfig",
        {
            "ca": {"secret": {"name": "certificate", "key": "ca.crt"}},
            "serverName": "test-workpool-operator.home.svc",
        },
    ),
    (
        {"metrics": {"enabled": True, "podMonitor": {"create": True, "labels": {"a": "b"}}}},
        "PodMonitor",
        "metadata.labels.a",
        "b",
    ),
    (
        {"metrics": {"enabled": True, "podMonitor": {"create": True, "interval": "1m"}}},
        "PodMonitor",
        "spec.podMetricsEndpoints",
        [{"port": "metrics", "interval": "1m"}],
    ),
    ({"livenessProbe": None}, "Deployment", f"{OPERATOR}.livenessProbe", None),
    (
        {"podDisruptionBudget": {"maxUnavailable": None, "minAvailable": 0}},
        "PodDisruptionBudget",
        "spec.minAvailable",
        0,
    ),
    ({"service": {"port": 80}}, "Service", "spec.ports.0.port", 80),
    (
        {"uninstall": {"patienceSeconds": 90}, "bindings": [BINDING]},
        "Job",
        f"{OPERATOR}.args.2",
        "--patience-seconds=90",
    ),
]
NO_HOOK: Object = {"crds": {"upgrade": False}}
#: Values with which a kind of object is not rendered.
SWITCHES: list[tuple[Object, str]] = [
    (NO_HOOK | {"serviceAccount": {"create": False, "name": "own"}}, "ServiceAccount"),
    ({"rbac": {"create": False}}, "Role"),
    ({"rbac": {"create": False}}, "RoleBinding"),
    ({"rbac": {"create": False}}, "ClusterRole"),
    ({"podDisruptionBudget": {"create": False}}, "PodDisruptionBudget"),
    ({"service": {"create": False}}, "Service"),
    (NO_HOOK, "Job"),
    (NO_HOOK, "ClusterRole"),
    (NO_HOOK | {"uninstall": {"deleteBindings": False}, "bindings": [BINDING]}, "Job"),
]


def first(objects: list[Object], kind: str, name: str = "") -> Object:
    return next(
        found for found in objects if found["kind"] == kind and name in found["metadata"]["name"]
    )


def at(found: Any, path: str) -> Any:
    """Return what is at the path, whose parts are keys and positions; None if nothing is."""
    for part in path.split("."):
        if isinstance(found, list):
            found = found[int(part)]
        elif isinstance(found, dict):
            found = found.get(part)
    return found


@pytest.mark.parametrize(
    ("values", "kind", "path", "expected"), CHANGES, ids=[json.dumps(row[0]) for row in CHANGES]
)
def test_a_value_changes_what_its_description_says(values, kind, path, expected):
    name = "unbind" if "uninstall" in values else ""
    if isinstance(expected, str):
        expected = expected.replace("VERSION", chart.VERSION)
    assert at(first(chart.objects(values), kind, name), path) == expected


@pytest.mark.parametrize(
    ("values", "kind"), SWITCHES, ids=[f"{json.dumps(row[0])} {row[1]}" for row in SWITCHES]
)
def test_a_value_leaves_an_object_out(values, kind):
    assert kind not in {found["kind"] for found in chart.objects(values)}


def test_every_value_has_a_test_that_changes_it():
    tested = [*VARIANTS.values(), *(row[0] for row in CHANGES), *(row[0] for row in SWITCHES)]
    described = {value.path for value in chart_values.values(CHART / "values.yaml")}
    leaves = {
        path
        for values in [*tested, {"securityContext": None}]
        for path in paths(values)
        if path in described
    }
    assert described - leaves == set()


def paths(values: Any, start: str = "") -> set[str]:
    if not isinstance(values, dict):
        return set()
    found = set()
    for name, value in values.items():
        found |= {f"{start}{name}", *paths(value, f"{start}{name}.")}
    return found


def test_an_extra_object_is_a_template():
    found = chart.objects({"extraObjects": VARIANTS["everything"]["extraObjects"]})
    config = first(found, "ConfigMap")
    assert config["metadata"]["name"] == "test-more"
    assert config["data"]["image"] == f"workpool-operator:{chart.VERSION}"


def test_pods_without_a_selector_of_their_own_are_spread_by_that_of_the_operator():
    own = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    other = own | {"labelSelector": {"matchLabels": {"app": "other"}}}
    deployment = first(chart.objects({"topologySpreadConstraints": [own, other]}), "Deployment")
    mine, kept = at(deployment, f"{POD}.topologySpreadConstraints")
    assert mine["labelSelector"] == deployment["spec"]["selector"]
    assert kept == other


def test_people_get_the_verbs_of_their_role_and_no_status_to_write():
    found = chart.objects({"rbac": {"aggregateToUserRoles": True}})
    roles = {name: first(found, "ClusterRole", f"-{name}") for name in ("view", "edit")}
    labels = {name: role["metadata"]["labels"] for name, role in roles.items()}
    aggregate = "rbac.authorization.k8s.io/aggregate-to"
    assert labels["view"][f"{aggregate}-view"] == labels["edit"][f"{aggregate}-edit"] == "true"
    assert labels["edit"][f"{aggregate}-admin"] == "true"
    assert [rule["verbs"] for rule in roles["view"]["rules"]] == [["get", "list", "watch"], ["get"]]
    (rule,) = roles["edit"]["rules"]
    assert rule["resources"] == ["workpoolbindings"]
    assert set(rule["verbs"]) == {"create", "update", "patch", "delete", "deletecollection"}


def test_more_rules_are_granted_in_the_namespace_of_the_release_only():
    objects = chart.objects(VARIANTS["everything"])
    extra = [found for found in objects if found["metadata"]["name"] == "pools-extra"]
    assert [found["kind"] for found in extra] == ["Role", "RoleBinding"]
    assert {found["metadata"]["namespace"] for found in extra} == {"home"}
    assert extra[0]["rules"] == VARIANTS["everything"]["rbac"]["extraRules"]
    assert extra[1]["subjects"][0]["name"] == "identity"


def test_a_cluster_wide_operator_may_write_everywhere_to_bindings_only():
    objects = chart.objects(VARIANTS["cluster-wide"])
    wide = {
        found["roleRef"]["name"]
        for found in objects
        if found["kind"] == "ClusterRoleBinding" and "annotations" not in found["metadata"]
    }
    assert wide == {"home-test-workpool-operator"}
    role = first(objects, "ClusterRole", "home-test-workpool-operator")
    written = {
        resource
        for rule in role["rules"]
        if set(rule["verbs"]) - {"get", "list", "watch"}
        for resource in rule["resources"]
    }
    assert written == {"workpoolbindings", "workpoolbindings/status"}
    granted = {
        (found["metadata"]["namespace"], found["roleRef"]["name"])
        for found in objects
        if found["kind"] == "RoleBinding" and "annotations" not in found["metadata"]
    }
    assert granted == {
        ("home", "test-workpool-operator-replicas"),
        *(
            (namespace, f"home-test-workpool-operator-{part}")
            for namespace in ("data", "runs")
            for part in ("jobs", "secrets")
        ),
    }
    args = at(first(objects, "Deployment"), f"{OPERATOR}.args")
    assert args == ["run"]


def test_a_cluster_wide_operator_has_the_roles_of_the_manifests():
    """tests/e2e/test_manifests.py runs an operator with them."""
    base = yaml.safe_load_all((CHECKOUT / "manifests" / "base" / "rbac.yaml").read_text())
    wanted = {
        found["metadata"]["name"].removeprefix("workpool-operator"): found["rules"]
        for found in base
        if found["kind"] in ("Role", "ClusterRole")
    }
    roles = {
        found["metadata"]["name"].rpartition("workpool-operator")[2]: found["rules"]
        for found in chart.objects(VARIANTS["cluster-wide"])
        if found["kind"] in ("Role", "ClusterRole")
    }
    assert {name: roles[name] for name in wanted} == wanted


def test_the_hook_that_upgrades_the_crd_may_read_and_patch_this_one_only():
    objects = chart.objects({})
    (rule,) = first(objects, "ClusterRole", "-crd")["rules"]
    assert rule["resourceNames"] == ["workpoolbindings.workpool-operator.dev"]
    assert rule["verbs"] == ["get", "patch"]
    job = first(objects, "Job", "-crd")
    assert at(job, f"{OPERATOR}.args") == ["crd", "--upgrade"]
    assert at(job, f"{POD}.serviceAccountName") == "test-workpool-operator-crd"


def test_without_roles_of_the_chart_the_hooks_use_the_operators_account():
    own = {"serviceAccount": {"create": False, "name": "own"}, "rbac": {"create": False}}
    objects = chart.objects({**own, "bindings": [BINDING]})
    jobs = [found for found in objects if found["kind"] == "Job"]
    assert [at(job, f"{POD}.serviceAccountName") for job in jobs] == ["own", "own"]


def test_a_policy_lets_the_pods_reach_prefect_the_api_server_and_dns_only():
    policy = first(chart.objects(VARIANTS["everything"]), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    reached = [
        (peer["ipBlock"]["cidr"], port["protocol"], port["port"])
        for rule in policy["egress"]
        for peer in rule["to"]
        for port in rule.get("ports", [{"protocol": "any", "port": "any"}])
        if "ipBlock" in peer
    ]
    assert reached == [
        ("10.20.0.0/16", "TCP", 4200),
        ("10.0.0.10/32", "TCP", 443),
        ("10.0.0.10/32", "TCP", 8443),
        ("10.96.0.10/32", "UDP", 53),
        ("10.96.0.10/32", "TCP", 53),
        ("10.96.0.10/32", "UDP", 5353),
        ("10.96.0.10/32", "TCP", 5353),
        ("10.30.0.0/16", "any", "any"),
    ]


def test_the_table_of_values_has_a_row_for_every_value():
    described = {value.path for value in chart_values.values(CHART / "values.yaml")}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    whole = {path.rpartition(".")[0] for path in described}
    undescribed = {
        path
        for path in paths(values)
        if path not in described | whole
        and not any(path.startswith(f"{known}.") for known in described)
    }
    assert undescribed == set()
