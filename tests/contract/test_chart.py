"""The chart as Helm renders it: which values it refuses, and what it renders from the others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from localnode import commands
from testbed import builds
from testbed.clusters import Cluster
from testbed.state import CHECKOUT
from workpool_operator.binding.consent import ANNOTATION

CHART = CHECKOUT / "charts" / "workpool-operator"
KUBERNETES = "--kube-version=1.36.3"
SPEC = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect.svc:4200/api"}}
ETL = {"name": "etl", "spec": SPEC}


Object = dict[str, Any]
Render = Callable[..., list[Object]]


class Refused(Exception):
    """Helm refused the values; the message is Helm's output."""


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """`render(bindings=[...])`: the objects of a release `test` in namespace `home`."""

    def render(**values: Any) -> list[Object]:
        file = tmp_path / "values.yaml"
        file.write_text(json.dumps(values))
        place = ["test", str(CHART), "--namespace=home", f"--values={file}", KUBERNETES]
        argv = [str(builds.tool("helm")), "template", *place]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(done.stderr)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return render


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind and not is_hook(found)]


def is_hook(found: Object) -> bool:
    return "helm.sh/hook" in found["metadata"].get("annotations", {})


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


def test_a_binding_is_rendered_as_it_was_written(render):
    spec = {**SPEC, "workQueues": ["high"], "jobs": {"ttlSecondsAfterFinished": 2_592_000}}
    (binding,) = of_kind(render(bindings=[{"name": "etl", "spec": spec}]), "WorkPoolBinding")
    assert binding["spec"] == spec
    assert (binding["metadata"]["name"], binding["metadata"]["namespace"]) == ("etl", "home")


def test_without_values_the_release_keeps_to_its_own_namespace(render):
    objects = render()
    assert {found["metadata"]["namespace"] for found in objects} == {"home"}
    assert not of_kind(objects, "ClusterRole")
    (deployment,) = of_kind(objects, "Deployment")
    (operator,) = deployment["spec"]["template"]["spec"]["containers"]
    assert operator["args"] == ["run", "--namespace=home"]


def test_each_namespace_has_the_rights_that_it_needs_and_no_more(render):
    roles = of_kind(render(watchNamespaces=["a"], jobNamespaces=["b"]), "Role")
    by_namespace = {role["metadata"]["namespace"]: rights([role]) for role in roles}
    assert by_namespace.keys() == {"a", "b", "home"}
    assert {thing for thing, _ in by_namespace["home"]} == {"leases"}
    assert ("secrets", "get") in by_namespace["a"]
    assert by_namespace["b"] >= {("jobs", "create"), ("namespaces", "get")}
    assert {thing for thing, _ in by_namespace["b"]}.isdisjoint({"secrets", "workpoolbindings"})
    assert {thing for thing, _ in by_namespace["a"]}.isdisjoint({"jobs", "pods", "pods/log"})


def test_every_role_is_bound_to_the_operator(render):
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


def test_secrets_are_written_only_where_the_values_allow_it(render):
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


def test_the_operator_can_read_only_the_named_secrets_of_run_pods(render):
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


def test_chart_and_manifests_give_the_same_rights(render):
    manifest = yaml.safe_load_all((CHECKOUT / "manifests" / "base" / "rbac.yaml").read_text())
    base = [document for document in manifest if document["kind"] == "ClusterRole"]
    assert rights(of_kind(render(writeSecrets=True), "Role")) == rights(base)


def test_chart_and_manifests_run_the_operator_the_same_way(render):
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


def test_the_number_of_replicas_can_be_chosen_and_a_drain_stops_one_at_a_time(render):
    objects = render(replicas=3)
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["replicas"] == 3
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"] == {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}


def test_bindings_are_released_before_an_uninstallation_removes_the_operator(render):
    hooks = [found for found in render(bindings=[ETL]) if is_hook(found)]
    assert {found["metadata"]["annotations"]["helm.sh/hook"] for found in hooks} == {"pre-delete"}
    (job,) = (found for found in hooks if found["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["unbind", "--yes"]
    assert "--namespace=home" in container["args"]
    weights = {
        found["kind"]: int(found["metadata"]["annotations"].get("helm.sh/hook-weight", 0))
        for found in hooks
    }
    assert weights.pop("Job") > max(weights.values())


def test_pod_settings_apply_to_all_pods(render):
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
    """The pod templates of the operator and of the hook that unbinds."""
    found = [o["spec"]["template"] for o in objects if o["kind"] in ("Job", "Deployment")]
    assert len(found) == 2
    return found


def test_environment_and_volumes_are_added_to_what_the_chart_sets(render):
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


def test_labels_apply_to_their_objects_and_change_no_selector(render):
    mine = {"team": "data", "app.kubernetes.io/name": "another"}
    objects = render(bindings=[ETL], commonLabels=mine, podLabels={"mesh": "off"})
    for found in objects:
        assert found["metadata"]["labels"]["team"] == "data"
        assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "workpool-operator"
        assert "mesh" not in found["metadata"]["labels"]
    for template in pods_of(objects):
        assert template["metadata"]["labels"].items() >= {"team": "data", "mesh": "off"}.items()
    (deployment,) = of_kind(objects, "Deployment")
    assert "team" not in deployment["spec"]["selector"]["matchLabels"]


def test_a_release_with_a_selector_serves_only_the_bindings_with_these_labels(render):
    labelled = ETL | {"labels": {"shard": "a", "app.kubernetes.io/name": "not-mine"}}
    objects = render(selector="shard in (a, b)", bindings=[labelled])
    [deployment] = of_kind(objects, "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "--namespace=home", "--selector=shard in (a, b)"]
    [binding] = of_kind(objects, "WorkPoolBinding")
    assert binding["metadata"]["labels"]["shard"] == "a"
    assert binding["metadata"]["labels"]["app.kubernetes.io/name"] == "workpool-operator"


def test_a_security_context_can_be_changed_in_part_or_left_out(render):
    user = {"runAsUser": None, "runAsGroup": None}
    for template in pods_of(render(bindings=[ETL], podSecurityContext=user)):
        openshift = template["spec"]["securityContext"]
        assert openshift == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    none = {"podSecurityContext": None, "securityContext": None}
    for template in pods_of(render(bindings=[ETL], **none)):
        (container,) = template["spec"]["containers"]
        assert "securityContext" not in template["spec"]
        assert "securityContext" not in container


def test_the_operator_knows_the_release_that_its_messages_name(render):
    (deployment,) = of_kind(render(), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["WORKPOOL_OPERATOR_HELM_RELEASE"] == "home/test"


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
    assert "serves the bindings of home, and may run Jobs in home" in notes()
    spec = {**SPEC, "jobs": {"namespace": "runs"}}
    text = notes(bindings=[{"name": "etl", "spec": spec}], jobNamespaces=["home", "runs"])
    assert "A binding in another namespace gets no status" in text
    assert f"kubectl annotate namespace runs {ANNOTATION}=home" in text


VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if not value])
def test_a_value_that_is_empty_by_default_may_be_null(render, name):
    assert render(**{name: None}) == render()


REFUSED = {
    "an unknown value": ({"replica": 2}, "additional properties 'replica' not allowed"),
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
    "an unknown log level": ({"log": {"level": "LOUD"}}, "at '/log/level': value must be one of"),
    "a binding in a namespace that is not watched": (
        {"bindings": [{**ETL, "namespace": "b"}], "watchNamespaces": ["a"]},
        "binding etl is in namespace b, which is not watched: add it to watchNamespaces (a)",
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
    "Jobs where no Role allows them": (
        {"bindings": [{"name": "etl", "spec": {**SPEC, "jobs": {"namespace": "b"}}}]},
        "the Jobs of binding etl go to namespace b, where no Role allows them: add it to "
        "jobNamespaces (home)",
    ),
}


@pytest.mark.parametrize(("values", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_values_are_refused_with_path_and_rule(render, values, expected):
    with pytest.raises(Refused) as refusal:
        render(**values)
    assert expected in str(refusal.value)
