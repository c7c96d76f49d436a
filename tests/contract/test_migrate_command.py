"""What `workpool-operator migrate` prints is taken by a real cluster, and by Helm."""

from __future__ import annotations

import json

import yaml

from tests.support import chart
from tests.support.command import Command
from tests.support.prefect import stock_template


async def test_the_output_of_a_release_is_served_and_rendered_by_helm(
    kube, namespace, binding, operator, pool, prefect_server, tmp_path
):
    command = Command(tmp_path, {})
    release = {
        "worker": {
            "apiConfig": "selfHostedServer",
            "selfHostedServerApiConfig": {"apiUrl": prefect_server.url},
            "config": {
                "workPool": pool,
                "queryInterval": 15,
                "name": f"worker of {pool}",
                "baseJobTemplate": {"configuration": json.dumps(stock_template())},
            },
            "extraEnvVars": [
                {"name": "PREFECT_LOGGING_LEVEL", "value": "DEBUG"},
                {"name": "REGION", "value": "eu"},
            ],
            "nodeSelector": {"pool": "infra"},
            "replicaCount": 3,
            "podDisruptionBudget": {"minAvailable": 1},
        },
        "serviceAccount": {"annotations": {"cloud/role": "etl"}},
    }
    file = command.write("values.yaml", release)
    done = await command("migrate", file, f"--namespace={namespace}", "--name=etl")
    assert (done.code, done.err) == (0, "")
    config_map, made = yaml.safe_load_all(done.out)
    await kube.apply("configmaps", namespace, config_map)
    await operator()
    await (await binding("etl", **made["spec"])).ready()

    values = (await command("migrate", file, "-n", "home", "-o", "values")).document
    objects = {
        (each["kind"], each["metadata"]["name"]): each
        for each in yaml.safe_load_all(chart.rendered(values))
        if each
    }
    name = values["bindings"][0]["name"]
    assert objects["WorkPoolBinding", name]["spec"]["workPool"]["name"] == pool
    [template] = [each for (kind, _), each in objects.items() if kind == "ConfigMap"]
    assert json.loads(template["data"]["baseJobTemplate.json"]) == stock_template()
    deployment = objects["Deployment", "test-workpool-operator"]["spec"]
    assert deployment["replicas"] == 3
    assert deployment["template"]["spec"]["nodeSelector"] == {"pool": "infra"}
    [container] = deployment["template"]["spec"]["containers"]
    assert {"name": "REGION", "value": "eu"} in container["env"]
