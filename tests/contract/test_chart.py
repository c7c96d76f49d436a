"""The chart as Helm renders it: which values it refuses, and what it renders from the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from localnode import commands
from testbed import builds
from testbed.clusters import Cluster
from testbed.kubernetes_schemas import RELEASES
from testbed.state import CHECKOUT
from tests.support import chart, kubernetes_schemas
from tests.support.chart import CHART, SPEC, VARIANTS, Object, Refused
from workpool_operator import label_selector
from workpool_operator.binding.consent import ANNOTATION

ETL = {"name": "etl", "spec": SPEC}


def render(**values: Any) -> list[Object]:
    """The objects of a release `test` in namespace `home`."""
    return chart.objects(values)


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind and not is_hook(found)]


def is_hook(found: Object) -> bool:
    return "helm.sh/hook" in found["metadata"].get("annotations", {})


def hooks_of(objects: list[Object], event: str) -> list[Object]:
    found = [each for each in objects if is_hook(each)]
    return [each for each in found if each["metadata"]["annotations"]["helm.sh/hook"] == event]


def rights(roles: list[Object]) -> set[tuple[str, str]]:
    """Return the role's rights as pairs such as ("jobs", "create")."""
    rules = [rule for role in roles for rule in role["rules"]]
    return {
        (thing, verb) for rule in rules for thing in rule["resources"] for verb in rule["verbs"]
    }


def test_the_chart_passes_helms_strict_lint(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"bindings": [ETL]}))
    commands.run([builds.tool("helm"), "lint", "--strict", str(CHART), f"--values={file}"])


def test_a_binding_is_rendered_as_it_was_written():
    spec = {**SPEC, "workQueues": ["high"], "jobs": {"ttlSecondsAfterFinished": 2_592_000}}
    (binding,) = of_kind(render(bindings=[{"name": "etl", "spec": spec}]), "WorkPoolBinding")
    assert binding["spec"] == spec
    assert (binding["metadata"]["name"], binding["metadata"]["namespace"]) == ("etl", "home")


def test_without_values_the_release_keeps_to_its_own_namespace():
    objects = render()
    installed = [found for found in objects if not is_hook(found)]
    assert {found["metadata"]["namespace"] for found in installed} == {"home"}
    assert {found["kind"] for found in installed}.isdisjoint({"ClusterRole", "ClusterRoleBinding"})
    (deployment,) = of_kind(objects, "Deployment")
    (operator,) = deployment["spec"]["template"]["spec"]["containers"]
    assert operator["args"] == ["run", "--namespace=home"]


def test_each_namespace_has_the_rights_that_it_needs_and_no_more():
    roles = of_kind(render(watchNamespaces=["a"], jobNamespaces=["b"]), "Role")
    by_namespace = {role["metadata"]["namespace"]: rights([role]) for role in roles}
    assert by_namespace.keys() == {"a", "b", "home"}
    assert {thing for thing, _ in by_namespace["home"]} == {"leases"}
    assert ("secrets", "get") in by_namespace["a"]
    assert by_namespace["b"] >= {("jobs", "create"), ("namespaces", "get")}
    assert {thing for thing, _ in by_namespace["b"]}.isdisjoint({"secrets", "workpoolbindings"})
    assert {thing for thing, _ in by_namespace["a"]}.isdisjoint({"jobs", "pods", "pods/log"})


def test_every_role_is_bound_to_the_operator():
    objects = render(watchNamespaces=["a", "b"])
    named = {(r["metadata"]["namespace"], r["metadata"]["name"]) for r in of_kind(objects, "Role")}
    bindings = of_kind(objects, "RoleBinding")
    bound = {(found["metadata"]["namespace"], found["roleRef"]["name"]) for found in bindings}
    assert bound == named
    (account,) = of_kind(objects, "ServiceAccount")
    for found in bindings:
        (subject,) = found["subjects"]
        assert subject["name"] == account["metadata"]["name"]
        assert subject["namespace"] == "home"


def test_secrets_are_written_only_where_the_values_allow_it():
    spec = {**SPEC, "jobs": {"environmentSecret": True}}
    values = {"bindings": [{"name": "etl", "spec": spec}], "watchNamespaces": ["home"]}
    with pytest.raises(Refused, match=r"spec.jobs.environmentSecret: set writeSecrets to true"):
        render(**values)
    (role,) = (
        role
        for role in of_kind(render(**values, writeSecrets=True), "Role")
        if role["metadata"]["name"].endswith("-secrets")
    )
    assert role["metadata"]["namespace"] == "home"
    assert rights([role]) == {("secrets", verb) for verb in ("create", "patch", "delete", "list")}


def test_the_operator_can_read_only_the_named_secrets_of_run_pods():
    reference = {"secretKeyRef": {"name": "lesser-key", "key": "value"}}
    server = {**SPEC["server"], "apiKey": {"secretKeyRef": {"name": "key", "key": "value"}}}
    spec = {**SPEC, "server": server, "jobs": {"namespace": "b", "apiKey": reference}}
    objects = render(
        bindings=[{"name": "etl", "namespace": "a", "spec": spec}],
        watchNamespaces=["a"],
        jobNamespaces=["b", "c"],
    )
    roles = {role["metadata"]["namespace"]: role for role in of_kind(objects, "Role")}
    (rule,) = (rule for rule in roles["b"]["rules"] if rule["resources"] == ["secrets"])
    assert (rule["resourceNames"], rule["verbs"]) == (["lesser-key"], ["get"])
    assert ("secrets", "get") not in rights([roles["c"]])


@pytest.mark.parametrize("name", VARIANTS)
def test_no_rendered_role_has_a_wildcard_or_lists_secrets_that_it_may_not_write(name):
    values = VARIANTS[name] | {"rbac": {"create": True, "aggregateToUserRoles": True}}
    roles = [each for each in render(**values) if each["kind"] in ("Role", "ClusterRole")]
    assert roles
    rules = [rule for role in roles for rule in role["rules"]]
    assert not [rule for rule in rules if "*" in [each for part in rule.values() for each in part]]
    listed = rights(roles) & {("secrets", "list"), ("secrets", "watch")}
    assert listed == ({("secrets", "list")} if values.get("writeSecrets") else set())


def test_chart_and_manifests_give_the_same_rights():
    manifest = yaml.safe_load_all((CHECKOUT / "manifests" / "base" / "rbac.yaml").read_text())
    base = [document for document in manifest if document["kind"] == "ClusterRole"]
    assert rights(of_kind(render(writeSecrets=True), "Role")) == rights(base)


def test_chart_and_manifests_run_the_operator_the_same_way():
    (mine,) = of_kind(render(), "Deployment")
    base = yaml.safe_load((CHECKOUT / "manifests" / "base" / "deployment.yaml").read_text())
    same = ("replicas", "strategy")
    assert [mine["spec"][name] for name in same] == [base["spec"][name] for name in same]
    pods = [found["spec"]["template"]["spec"] for found in (mine, base)]
    (mine_there,), (base_there,) = (pod.pop("containers") for pod in pods)
    own = {"image", "imagePullPolicy", "args", "env"}
    assert {k: v for k, v in mine_there.items() if k not in own} == {
        k: v for k, v in base_there.items() if k not in own
    }
    for found, pod in zip((mine, base), pods, strict=True):
        (spread,) = pod.pop("topologySpreadConstraints")
        assert spread.pop("labelSelector") == found["spec"]["selector"]
        assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert {**pods[0], "serviceAccountName": "workpool-operator"} == pods[1]


def test_the_number_of_replicas_can_be_chosen_and_a_drain_stops_one_at_a_time():
    objects = render(replicas=3)
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["replicas"] == 3
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"] == {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}


def test_bindings_are_released_before_an_uninstallation_removes_the_operator():
    hooks = hooks_of(render(bindings=[ETL]), "pre-delete")
    (job,) = (found for found in hooks if found["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["unbind", "--yes"]
    assert "--namespace=home" in container["args"]
    weights = {
        found["kind"]: int(found["metadata"]["annotations"].get("helm.sh/hook-weight", 0))
        for found in hooks
    }
    assert weights.pop("Job") > max(weights.values())


def test_pod_settings_apply_to_all_pods():
    toleration = {"key": "infra", "operator": "Exists"}
    settings = {
        "tolerations": [toleration],
        "nodeSelector": {"pool": "infra"},
        "imagePullSecrets": ["registry"],
        "priorityClassName": "high",
    }
    objects = render(bindings=[ETL], **settings)
    for template in pods_of(objects):
        pod = template["spec"]
        assert pod["tolerations"] == [toleration]
        assert pod["nodeSelector"] == {"pool": "infra"}
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["priorityClassName"] == "high"


def pods_of(objects: list[Object]) -> list[Object]:
    """The pods of the operator, of the hooks that unbind and upgrade, and of `helm test`."""
    found = [o["spec"]["template"] for o in objects if o["kind"] in ("Job", "Deployment")]
    found += [o for o in objects if o["kind"] == "Pod"]
    assert len(found) == 4
    return found


def test_environment_and_volumes_are_added_to_what_the_chart_sets():
    proxy = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
    extra = {
        "extraEnvFrom": [{"secretRef": {"name": "proxy"}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "company-ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
    }
    for template in pods_of(render(bindings=[ETL], extraEnv=[proxy], **extra)):
        (container,) = template["spec"]["containers"]
        assert container["env"][-1] == proxy
        assert {entry["name"] for entry in container["env"]} >= {"WORKPOOL_OPERATOR_LOG_LEVEL"}
        assert container["envFrom"] == extra["extraEnvFrom"]
        assert container["volumeMounts"] == extra["extraVolumeMounts"]
        assert template["spec"]["volumes"] == extra["extraVolumes"]


def test_labels_and_annotations_apply_to_their_objects_and_change_no_selector():
    mine = {"team": "data", "app.kubernetes.io/name": "another"}
    objects = render(
        bindings=[ETL],
        commonLabels=mine,
        commonAnnotations={"owner": "platform"},
        podLabels={"mesh": "off"},
        podAnnotations={"scrape": "no"},
    )
    for found in objects:
        labels = found["metadata"]["labels"]
        assert labels["team"] == "data"
        assert labels["app.kubernetes.io/name"].startswith("workpool-operator")
        assert "mesh" not in labels or found["kind"] == "Pod"
        assert found["metadata"]["annotations"]["owner"] == "platform"
    for template in pods_of(objects):
        assert template["metadata"]["labels"].items() >= {"team": "data", "mesh": "off"}.items()
        assert template["metadata"]["annotations"]["scrape"] == "no"
    (deployment,) = of_kind(objects, "Deployment")
    assert "team" not in deployment["spec"]["selector"]["matchLabels"]


def test_a_hooks_pod_is_selected_by_no_service_and_no_budget():
    operator, *hooks = (each["metadata"]["labels"] for each in pods_of(render(bindings=[ETL])))
    (service,), (budget,) = (of_kind(render(), kind) for kind in ("Service", "PodDisruptionBudget"))
    for selector in (service["spec"]["selector"], budget["spec"]["selector"]["matchLabels"]):
        assert operator.items() >= selector.items()
        assert not any(labels.items() >= selector.items() for labels in hooks)


def test_a_release_with_a_selector_serves_only_the_bindings_with_these_labels():
    labelled = ETL | {"labels": {"shard": "a", "app.kubernetes.io/name": "not-mine"}}
    objects = render(selector="shard in (a, b)", bindings=[labelled])
    [deployment] = of_kind(objects, "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "--namespace=home", "--selector=shard in (a, b)"]
    [binding] = of_kind(objects, "WorkPoolBinding")
    assert binding["metadata"]["labels"]["shard"] == "a"
    assert binding["metadata"]["labels"]["app.kubernetes.io/name"] == "workpool-operator"


def test_a_security_context_can_be_changed_in_part_or_left_out():
    user = {"runAsUser": None, "runAsGroup": None}
    for template in pods_of(render(bindings=[ETL], podSecurityContext=user)):
        openshift = template["spec"]["securityContext"]
        assert openshift == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    none = {"podSecurityContext": None, "securityContext": None}
    for template in pods_of(render(bindings=[ETL], **none)):
        (container,) = template["spec"]["containers"]
        assert "securityContext" not in template["spec"]
        assert "securityContext" not in container


def test_the_operator_knows_the_release_that_its_messages_name():
    environment = _environment(render())
    assert environment["WORKPOOL_OPERATOR_HELM_RELEASE"] == "home/test"


def test_the_operator_knows_where_its_release_grants_rights_so_that_its_messages_say_upgrade():
    apart = _environment(render(watchNamespaces=["a", "b"], jobNamespaces=["runs"]))
    assert apart["WORKPOOL_OPERATOR_HELM_WATCH_NAMESPACES"] == "a,b"
    assert apart["WORKPOOL_OPERATOR_HELM_JOB_NAMESPACES"] == "runs"
    foreign = _environment(render(rbac={"create": False}))
    assert "WORKPOOL_OPERATOR_HELM_WATCH_NAMESPACES" not in foreign


def _environment(objects: list[dict[str, Any]]) -> dict[str, str | None]:
    (deployment,) = of_kind(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


@pytest.fixture
def notes(tmp_path: Path, cluster: Cluster, crd: str) -> Callable[..., str]:
    """`notes(bindings=[...])`: the notes that Helm prints after an installation."""

    def notes(**values: Any) -> str:
        file = tmp_path / "values.yaml"
        file.write_text(json.dumps(values))
        place = ["test", str(CHART), "--namespace=home", f"--values={file}"]
        dry = [f"--kubeconfig={cluster.kubeconfig}", "--dry-run=client", "--output=json"]
        argv = [str(builds.tool("helm")), "install", *place, *dry]
        return str(json.loads(commands.run(argv))["info"]["notes"])

    return notes


def test_the_notes_name_namespaces_that_are_not_watched_or_have_to_consent(notes):
    text = notes()
    assert "serves the bindings of home, and may run Jobs in home" in text
    commands_of_the_user = [line.split("#")[0].strip() for line in text.splitlines()]
    assert "helm test test --namespace home --logs" in commands_of_the_user
    assert "kubectl get wpb --namespace home --output wide" in commands_of_the_user
    spec = {**SPEC, "jobs": {"namespace": "runs"}}
    text = notes(bindings=[{"name": "etl", "spec": spec}], jobNamespaces=["home", "runs"])
    assert "A binding in another namespace gets no status" in text
    assert f"kubectl annotate namespace runs {ANNOTATION}=home" in text


def test_the_notes_say_that_an_image_without_a_registry_must_be_on_the_nodes(notes):
    assert f"image workpool-operator:{chart.VERSION} has no registry" in notes()
    named = notes(image={"repository": "registry.example/workpool-operator"})
    assert "registry" not in named


@pytest.mark.parametrize("name", VARIANTS)
def test_what_the_chart_renders_is_what_was_reviewed(name):
    path, text = chart.golden(name)
    assert path.read_text() == text, "read the difference, then: python -m tests.support.chart"


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_is_valid_in_each_release_of_kubernetes(release):
    found = [each for name in VARIANTS for each in yaml.safe_load_all(chart.golden(name)[1])]
    custom = ("workpool-operator.dev/", "monitoring.coreos.com/")  # have CRDs of their own
    builtin = [each for each in found if each and not each["apiVersion"].startswith(custom)]
    assert len(builtin) > 50
    assert [fault for each in builtin for fault in kubernetes_schemas.faults(each, release)] == []


def test_the_golden_values_use_every_value_of_the_chart():
    used = set().union(*VARIANTS.values())
    assert used == set(VALUES) - {"crds", "securityContext"}


VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
#: Null removes a probe, so `livenessProbe: {}` is another value.
EMPTY = [name for name, value in VALUES.items() if not value and name != "livenessProbe"]


@pytest.mark.parametrize("name", EMPTY)
def test_a_value_that_is_empty_by_default_may_be_null(name):
    assert render(**{name: None}) == render()


REFUSED = {
    "an unknown value": ({"replica": 2}, "additional properties 'replica' not allowed"),
    "an unknown value within a value": (
        {"networkPolicy": {"prefect": {"cidr": []}}},
        "at '/networkPolicy/prefect': additional properties 'cidr' not allowed",
    ),
    "a group of values that is null": ({"rbac": None}, "missing property 'rbac'"),
    "a selector that the operator refuses": ({"selector": "shard in a"}, "at '/selector'"),
    "two bindings with one name": (
        {"bindings": [ETL, ETL | {"namespace": "home"}]},
        "bindings has home/etl twice: remove one of the two, or rename it",
    ),
    "an invalid digest": ({"image": {"digest": "1.2"}}, "at '/image/digest'"),
    "a mapping of a name to a number": ({"podLabels": {"a": 1}}, "at '/podLabels/a': got number"),
    "a probe with a handler": (
        {"livenessProbe": {"httpGet": {}}},
        "at '/livenessProbe': additional properties 'httpGet' not allowed",
    ),
    "an account that does not exist": (
        {"serviceAccount": {"create": False}},
        "serviceAccount.create is false: name an existing account in serviceAccount.name",
    ),
    "all namespaces and some": (
        {"clusterWide": True, "watchNamespaces": ["a"]},
        "clusterWide serves every namespace: leave watchNamespaces empty, or set clusterWide to",
    ),
    "a binding without a Lease": (
        {"clusterWide": True, "bindings": [ETL], "jobNamespaces": []},
        "the Jobs of binding etl go to namespace home, where no Role allows them",
    ),
    "two CAs": (
        {"caBundle": {"configMap": "a", "secret": "b"}},
        "caBundle names a ConfigMap and a Secret: set caBundle.configMap or caBundle.secret",
    ),
    "a variable that a value sets": (
        {
            "proxy": {"https": "http://proxy:3128"},
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://other:3128"}],
        },
        "extraEnv sets HTTPS_PROXY, which the chart sets already: use the value proxy.https",
    ),
    "a budget with two amounts": (
        {"podDisruptionBudget": {"minAvailable": 1}},
        "podDisruptionBudget needs one of maxUnavailable and minAvailable: set the other to null",
    ),
    "a network policy without a network": (
        {"networkPolicy": {"create": True, "prefect": {"cidrs": ["10.0.0.0/8"]}}},
        "networkPolicy.apiServer.cidrs is empty: name the networks that the operator must reach",
    ),
    "a monitor of metrics that are not served": (
        {"metrics": {"serviceMonitor": {"create": True}}},
        "metrics.serviceMonitor.create is true, but no metrics are served: set metrics.enabled",
    ),
    "two monitors": (
        {
            "metrics": {
                "enabled": True,
                "serviceMonitor": {"create": True},
                "podMonitor": {"create": True},
            }
        },
        "each pod would be scraped twice: set metrics.serviceMonitor.create or "
        "metrics.podMonitor.create",
    ),
    "a monitor of a Service that does not exist": (
        {
            "metrics": {"enabled": True, "serviceMonitor": {"create": True}},
            "service": {"create": False},
        },
        "a ServiceMonitor needs the Service: set service.create, or metrics.podMonitor.create",
    ),
    "a time between scrapes without a unit": (
        {"metrics": {"podMonitor": {"interval": "30"}}},
        "at '/metrics/podMonitor/interval'",
    ),
    "no replica": ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
    "an unknown field of a binding": (
        {"bindings": [{"name": "etl", "spec": {**SPEC, "sever": {}}}]},
        "at '/bindings/0/spec': additional properties 'sever' not allowed",
    ),
    "a limit of none": (
        {"bindings": [{"name": "etl", "spec": {**SPEC, "concurrencyLimit": 0}}]},
        "at '/bindings/0/spec/concurrencyLimit': minimum: got 0, want 1",
    ),
    "an invalid address": (
        {"bindings": [{"name": "etl", "spec": {**SPEC, "server": {"url": "foo"}}}]},
        "at '/bindings/0/spec/server/url'",
    ),
    "a reserved pool": (
        {"bindings": [{"name": "etl", "spec": {**SPEC, "workPool": {"name": "Prefect-x"}}}]},
        "at '/bindings/0/spec/workPool/name'",
    ),
    "no queue": (
        {"bindings": [{"name": "etl", "spec": {**SPEC, "workQueues": []}}]},
        "at '/bindings/0/spec/workQueues'",
    ),
    "a binding without pool": (
        {"bindings": [{"name": "etl", "spec": {"server": SPEC["server"]}}]},
        "at '/bindings/0/spec': missing property 'workPool'",
    ),
    "a variable that the chart sets": (
        {"extraEnv": [{"name": "WORKPOOL_OPERATOR_LOG_LEVEL", "value": "DEBUG"}]},
        "extraEnv sets WORKPOOL_OPERATOR_LOG_LEVEL, which the chart sets already: use the value "
        "log.level",
    ),
    "another port than that of the probes": (
        {"extraEnv": [{"name": "WORKPOOL_OPERATOR_HEALTH_PORT", "value": "9000"}]},
        "extraEnv sets WORKPOOL_OPERATOR_HEALTH_PORT: leave it out, because the probes call port "
        "8080",
    ),
    "an unknown log level": ({"log": {"level": "LOUD"}}, "at '/log/level': value must be one of"),
    "a binding in a namespace that is not watched": (
        {"bindings": [{**ETL, "namespace": "b"}], "watchNamespaces": ["a"]},
        'binding etl is in namespace b, which is not watched: set watchNamespaces to ["a","b"]',
    ),
    "a copy of a Secret without the right to create it": (
        {
            "bindings": [
                {
                    "name": "etl",
                    "spec": {
                        **SPEC,
                        "server": {
                            **SPEC["server"],
                            "apiKey": {"secretKeyRef": {"name": "key", "key": "value"}},
                        },
                        "jobs": {"namespace": "b"},
                    },
                }
            ],
            "jobNamespaces": ["b"],
        },
        "binding etl needs an operator that may write Secrets in namespace b, for a copy of "
        "spec.server.apiKey (or name a Secret there: spec.jobs.apiKey): set writeSecrets to true",
    ),
    "runs that choose a namespace where no Role allows them": (
        {
            "bindings": [{"name": "etl", "spec": {**SPEC, "jobs": {"allowedNamespaces": ["c"]}}}],
            "jobNamespaces": ["home"],
        },
        "the Jobs of binding etl go to namespace c, where no Role allows them",
    ),
    "Jobs where no Role allows them": (
        {"bindings": [{"name": "etl", "spec": {**SPEC, "jobs": {"namespace": "b"}}}]},
        "the Jobs of binding etl go to namespace b, where no Role allows them: set "
        'jobNamespaces to ["home","b"]',
    ),
}


@pytest.mark.parametrize(
    "selector",
    ["shard=a", "shard in (a, b), !old", "example.com/shard!=a", "shard", "a==b,c notin (d,)", ""],
)
def test_a_selector_that_the_operator_takes_is_no_wrong_value(selector):
    assert label_selector.invalid_requirement(selector) is None
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["selector"]
    assert re.search(schema["pattern"], selector)


@pytest.mark.parametrize(("values", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_values_are_refused_with_path_and_rule(values, expected):
    with pytest.raises(Refused) as refusal:
        render(**values)
    assert expected in str(refusal.value)
