"""A prefect-worker release becomes a binding and values of our chart; the rest is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.support.command import Command
from workpool_operator.cli import binding_check
from workpool_operator.cli.migration import Migration, migrate
from workpool_operator.cli.worker_chart import VALUES

SERVER: dict[str, Any] = {
    "apiConfig": "selfHostedServer",
    "selfHostedServerApiConfig": {"apiUrl": "http://prefect-server.prefect.svc:4200/api"},
}
ACCOUNT, WORKSPACE = "0c0a3e2f-7e6b-4a57-8a9f-0a8f2f9b6a11", "6b1d2a63-0d38-4f5c-9d39-6f6bb0a2c1de"


def of(
    worker: Any = None, *, namespace: str = "data", config: Any = None, **others: Any
) -> Migration:
    config = {"workPool": "K8s ETL", **(config or {})}
    values = {"worker": {**SERVER, "config": config, **(worker or {})}, **others}
    return migrate(values, namespace=namespace)


def spec(*arguments: Any, **options: Any) -> dict[str, Any]:
    found = of(*arguments, **options)
    assert [each for each in found.findings if each.severity == "error"] == []
    assert [each for each in binding_check.check(found.binding) if each.severity == "error"] == []
    return found.binding["spec"]


def warnings(found: Migration) -> dict[str, str]:
    return {each.path_text: each.message for each in found.findings if each.severity == "warning"}


def test_a_release_with_the_defaults_becomes_the_shortest_binding():
    found = of()
    assert found.binding == {
        "apiVersion": "workpool-operator.dev/v1alpha1",
        "kind": "WorkPoolBinding",
        "metadata": {"name": "k8s-etl", "namespace": "data"},
        "spec": {
            "workPool": {"name": "K8s ETL"},
            "server": {"url": "http://prefect-server.prefect.svc:4200/api"},
        },
    }
    assert (found.chart_values, found.findings) == ({}, [])
    assert found.all_values["bindings"] == [
        {"name": "k8s-etl", "namespace": "data", "spec": found.binding["spec"]}
    ]


def test_a_workspace_of_cloud_keeps_its_secret():
    cloud = {"accountId": ACCOUNT, "workspaceId": WORKSPACE, "apiKeySecret": {"name": "mine"}}
    assert spec({"apiConfig": "cloud", "cloudApiConfig": cloud})["server"] == {
        "cloud": {"accountID": ACCOUNT, "workspaceID": WORKSPACE},
        "apiKey": {"secretKeyRef": {"name": "mine", "key": "key"}},
    }


def test_a_cloud_of_ones_own_becomes_an_address():
    own = {"apiUrl": "https://prefect.example/api/", "accountId": ACCOUNT, "workspaceId": WORKSPACE}
    found = spec({"apiConfig": "customerManagedCloud", "customerManagedCloudApiConfig": own})
    assert found["server"]["url"] == (
        f"https://prefect.example/api/accounts/{ACCOUNT}/workspaces/{WORKSPACE}"
    )
    assert found["server"]["apiKey"]["secretKeyRef"]["name"] == "prefect-api-key"


def basic(**auth: Any) -> dict[str, Any]:
    server = SERVER["selfHostedServerApiConfig"] | {"basicAuth": {"enabled": True, **auth}}
    return {"selfHostedServerApiConfig": server}


def test_basic_authentication_keeps_its_secret():
    reference = {"name": "prefect-auth", "key": "auth-string"}
    found = spec(basic(existingSecret="prefect-auth"))
    assert found["server"]["authString"] == {"secretKeyRef": reference}


def test_a_plain_auth_string_is_not_printed_and_the_command_for_its_secret_is():
    found = of(basic(authString="admin:s3cret"))
    assert found.binding["spec"]["server"]["authString"]["secretKeyRef"]["name"] == (
        "k8s-etl-auth-string"
    )
    text = warnings(found)["worker.selfHostedServerApiConfig.basicAuth.authString"]
    assert "kubectl create secret generic k8s-etl-auth-string --namespace=data" in text
    assert "s3cret" not in json.dumps([found.manifests, found.all_values, warnings(found)])


def test_what_the_binding_has_is_carried_over():
    config = {"workQueues": ["a", "b"], "queryInterval": 20, "prefetchSeconds": 60, "name": "w"}
    found = spec(config=config)
    assert found["workQueues"] == ["a", "b"]
    assert found["poll"] == {"intervalSeconds": 20, "prefetchSeconds": 60}
    assert found["workerName"] == "w"


def test_a_number_beyond_the_limit_becomes_the_limit_and_is_named():
    found = of(config={"queryInterval": 90, "prefetchSeconds": 10})
    assert found.binding["spec"]["poll"] == {"intervalSeconds": 55}
    assert "90 becomes 55" in warnings(found)["worker.config.queryInterval"]


def test_jobs_elsewhere_need_consent_and_the_right_to_copy_the_secret():
    found = of(
        basic(existingSecret="a"), config={"jobNamespace": "runs, gpu"}, role={"namespace": "runs"}
    )
    assert found.binding["spec"]["jobs"] == {"namespace": "runs", "allowedNamespaces": ["gpu"]}
    assert found.chart_values == {"jobNamespaces": ["runs", "gpu"], "writeSecrets": True}
    assert "kubectl annotate namespace runs" in warnings(found)["role.namespace"]
    assert "kubectl annotate namespace gpu" in warnings(found)["worker.config.jobNamespace"]


def test_the_own_namespace_needs_neither():
    found = of(config={"jobNamespace": "data"}, role={"namespace": "data"})
    assert "jobs" not in found.binding["spec"]
    assert (found.chart_values, found.findings) == ({}, [])


@pytest.mark.parametrize("template", ['{"job_configuration": {}}', {"job_configuration": {}}])
def test_a_template_goes_into_a_config_map_of_its_own(template):
    found = of(config={"baseJobTemplate": {"configuration": template}})
    assert found.config_map is not None
    assert found.config_map["metadata"] == {
        "name": "k8s-etl-base-job-template",
        "namespace": "data",
    }
    assert json.loads(found.config_map["data"]["baseJobTemplate.json"]) == {"job_configuration": {}}
    [in_values] = found.all_values["extraObjects"]
    assert in_values == found.config_map
    reference = {"name": "k8s-etl-base-job-template", "key": "baseJobTemplate.json"}
    assert found.binding["spec"]["workPool"] == {
        "name": "K8s ETL",
        "creationPolicy": "IfNotPresent",
        "syncPolicy": "IfUnchanged",
        "baseJobTemplate": {"configMapKeyRef": reference},
    }


def test_helm_leaves_the_placeholders_of_a_template_alone():
    found = of(config={"baseJobTemplate": {"configuration": '{"a": "{{ image }}"}'}})
    [in_values] = found.all_values["extraObjects"]
    assert in_values["data"]["baseJobTemplate.json"] == '{"a": "{{ "{{" }} image }}"}'


def test_an_existing_config_map_is_named():
    work_pool = spec(config={"baseJobTemplate": {"existingConfigMapName": "mine"}})["workPool"]
    assert work_pool["baseJobTemplate"]["configMapKeyRef"]["name"] == "mine"


def test_the_environment_reaches_whom_it_reached():
    def variable(name: str) -> dict[str, str]:
        return {"name": name, "value": "x"}

    names = ("REGION", "PREFECT_LOGGING_LEVEL", "PREFECT_API_URL", "PREFECT_WORKER_QUERY_SECONDS")
    found = of({"extraEnvVars": [*map(variable, names)], "extraEnvVarsSecrets": ["more"]})
    assert found.chart_values == {
        "extraEnv": [variable("REGION")],
        "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    }
    assert found.binding["spec"]["jobs"]["env"] == [variable("PREFECT_LOGGING_LEVEL")]
    assert set(warnings(found)) == {
        "worker.extraEnvVars[2]",
        "worker.extraEnvVars[3]",
        "worker.extraEnvVarsSecrets",
    }


@pytest.mark.parametrize(("value", "jobs"), [("false", {"replicatePodEvents": False}), ("1", {})])
def test_the_switch_of_pod_events_becomes_that_of_the_binding(value, jobs):
    variable = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_REPLICATE_POD_EVENTS"
    found = of({"extraEnvVars": [{"name": variable, "value": value}]})
    assert found.binding["spec"].get("jobs", {}) == jobs
    assert list(warnings(found)) == []


def test_values_that_mean_the_same_are_carried_over():
    found = of(
        {"nodeSelector": {"a": "b"}, "image": {"pullSecrets": ["r"]}, "replicaCount": 3}
        | {
            "podDisruptionBudget": {"minAvailable": 1},
            "containerSecurityContext": {"runAsUser": 7},
        },
        serviceAccount={"annotations": {"cloud/role": "etl"}, "name": "prefect"},
        rolebinding={"create": False},
    )
    assert found.chart_values == {
        "nodeSelector": {"a": "b"},
        "imagePullSecrets": ["r"],
        "replicas": 3,
        "securityContext": {"runAsUser": 7},
        "podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": None},
        "serviceAccount": {"annotations": {"cloud/role": "etl"}},
        "rbac": {"create": False},
    }
    assert list(warnings(found)) == ["serviceAccount.name"]


#: Each value without a counterpart, with another one than its default.
NOT_CARRIED = {
    path: {"a string": "x", "a number": 7, "true or false": not known.default}.get(
        known.kind, ["x"] if known.kind == "a list" else {"x": "y"}
    )
    for path, known in VALUES.items()
    if known.instead
}


@pytest.mark.parametrize("path", NOT_CARRIED)
def test_each_value_without_a_counterpart_is_named_with_what_to_do(path):
    value: Any = NOT_CARRIED[path]
    for key in reversed(path.split(".")):
        value = {key: value}
    found = migrate(value)
    assert warnings(found)[path].startswith("is not carried over: ")
    defaults = migrate({"worker": {"config": {"limit": None}}})
    assert warnings(defaults) == {}


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({"worker": {"config": {"workpool": "x"}}}, "worker.config.workpool", "(did you mean wor"),
        ({"workers": {}}, "workers", "(did you mean worker?)"),
        ({"worker": "x"}, "worker", "must be a mapping, is a string"),
        ({"worker": {"config": {"workQueues": "a"}}}, "worker.config.workQueues", "must be a list"),
        ({"worker": {"replicaCount": "2"}}, "worker.replicaCount", "must be a number, is a str"),
        ({"worker": {"extraEnvVars": [7]}}, "worker.extraEnvVars[0]", "must be a mapping with a n"),
        ({"worker": {"apiConfig": "server"}}, "worker.apiConfig", "must be one of cloud, customer"),
        ({"worker": {"config": {"type": "process"}}}, "worker.config.type", "keep this worker"),
        ({}, "worker.config.workPool", "is required: the name of the work pool"),
        ({}, "worker.cloudApiConfig.accountId", "is required: the id in the address"),
    ],
)
def test_faults_of_the_input_are_named_with_their_path(values, path, message):
    found = {each.path_text: each.message for each in migrate(values).findings}
    assert message in found[path]


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {})


VALUES_FILE = f"""\
worker:
  apiConfig: cloud
  cloudApiConfig: {{accountId: {ACCOUNT}, workspaceId: {WORKSPACE}}}
  config:
    workPool: etl
    limit: 10
"""


def test_the_output_is_valid_and_findings_have_their_line(command):
    file = command.home / "values.yaml"
    file.write_text(VALUES_FILE)
    result = command.here("migrate", file, "--namespace", "data")
    assert result.code == 0
    assert result.err.startswith(f"{file}:6:5: warning: worker.config.limit: is not carried over: ")
    assert command.here("validate", "-", stdin=result.out).out == "1 binding valid\n"
    values = yaml.safe_load(command.here("migrate", file, "-o", "values", "--name", "x").out)
    assert [each["name"] for each in values["bindings"]] == ["x"]
    document = json.loads(command.here("migrate", file, "-o", "json").out)
    assert (len(document["manifests"]), document["findings"][0]["line"]) == (1, 6)


def test_a_fault_of_the_binding_is_named_at_the_value_behind_it(command):
    file = command.home / "values.yaml"
    file.write_text(VALUES_FILE.replace(ACCOUNT, "mine").replace("workPool: etl", "workPool: a/b"))
    result = command.here("migrate", file)
    assert (result.code, result.out) == (1, "")
    assert f"{file}:3:20: error: worker.cloudApiConfig.accountId: spec.server.cloud" in result.err
    assert f"{file}:5:5: error: worker.config.workPool: spec.workPool.name of the" in result.err


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a: [", "is not valid YAML"), ("- 1", "must contain the values of one release"), (None, "")],
)
def test_a_file_that_cannot_be_used_is_one_error(command, text, problem):
    file = command.home / "values.yaml"
    if text:
        file.write_text(text)
    result = command.here("migrate", file)
    assert problem in result.error
    assert "values.yaml" in result.error
