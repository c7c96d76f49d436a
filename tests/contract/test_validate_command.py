"""`workpool-operator validate` accepts and refuses offline what a real API server does."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
import yaml

from tests.support.command import Command
from tests.support.prefect import stock_template

SPEC = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect.svc:4200/api"}}
KEY = {"secretKeyRef": {"name": "prefect", "key": "api-key"}}
OTHER_KEY = {"secretKeyRef": {"name": "A", "key": "b c"}}

RULES_NOT_EVALUATED = "<nil>"  # the API server's path for them, if a type is wrong

# For each spec the paths that the API server refuses.
SPECS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "the shortest": ({}, set()),
    "everything": (
        {
            "workPool": {"name": "Größe L", "type": "kubernetes-operator"},
            "workQueues": ["high", "low"],
            "server": {**SPEC["server"], "apiKey": KEY},
            "jobs": {
                "namespace": "runs",
                "serverURL": "https://x/api",
                "apiKey": KEY,
                "environmentSecret": True,
                "ttlSecondsAfterFinished": 0,
                "pendingTimeoutSeconds": 10,
            },
            "concurrencyLimit": 1,
            "poll": {"intervalSeconds": 55, "prefetchSeconds": 0},
            "suspend": True,
        },
        set(),
    ),
    "no pool": ({"workPool": ...}, {"spec.workPool"}),
    "no server": ({"server": ...}, {"spec.server"}),
    "no address": ({"server": {}}, {"spec.server"}),
    "nulls": (
        {
            "suspend": None,
            "concurrencyLimit": None,
            "jobs": None,
            "poll": {"intervalSeconds": None},
        },
        set(),
    ),
    "a null for a required field": ({"workPool": None}, {"spec.workPool"}),
    "a null in a list": ({"workQueues": [None]}, {"spec.workQueues[0]"}),
    "bad names": (
        {"workPool": {"name": "a/b"}, "workQueues": ["", "a%b"]},
        {"spec.workPool.name", "spec.workQueues[0]", "spec.workQueues[1]"},
    ),
    "a reserved name": ({"workPool": {"name": "PrefectX"}}, {"spec.workPool.name"}),
    "long names": (
        {"workPool": {"name": "a" * 201}, "workQueues": ["b" * 201]},
        {"spec.workPool.name", "spec.workQueues[0]"},
    ),
    "a duplicate queue": ({"workQueues": ["a", "b", "a"]}, {"spec.workQueues[2]"}),
    "no queue": ({"workQueues": []}, {"spec.workQueues"}),
    "an unknown type": ({"workPool": {"name": "x", "type": "docker"}}, {"spec.workPool.type"}),
    "wrong types": (
        {"concurrencyLimit": "5", "suspend": "no", "workQueues": "a"},
        {"spec.concurrencyLimit", "spec.suspend", "spec.workQueues"},
    ),
    "a fraction": ({"concurrencyLimit": 1.5}, {"spec.concurrencyLimit"}),
    "addresses": (
        {"server": {"url": "prefect:4200"}, "jobs": {"serverURL": "ftp://x"}},
        {"spec.server.url", "spec.jobs.serverURL"},
    ),
    "an address with a newline": ({"server": {"url": "http://x/api\n"}}, {"spec.server.url"}),
    "two credentials": (
        {"server": {**SPEC["server"], "apiKey": KEY, "authString": KEY}},
        {"spec.server"},
    ),
    "two credentials of runs": ({"jobs": {"apiKey": KEY, "authString": KEY}}, {"spec.jobs"}),
    "plain credentials": ({"server": {**SPEC["server"], "apiKey": "x"}}, {"spec.server.apiKey"}),
    "names that cannot exist": (
        {"server": {**SPEC["server"], "apiKey": OTHER_KEY}, "jobs": {"namespace": "Data_1"}},
        {
            "spec.server.apiKey.secretKeyRef.name",
            "spec.server.apiKey.secretKeyRef.key",
            "spec.jobs.namespace",
        },
    ),
    "numbers too low": (
        {"concurrencyLimit": 0, "poll": {"intervalSeconds": 0, "prefetchSeconds": -1}},
        {"spec.concurrencyLimit", "spec.poll.intervalSeconds", "spec.poll.prefetchSeconds"},
    ),
    "numbers too high": (
        {"poll": {"intervalSeconds": 56}, "jobs": {"pendingTimeoutSeconds": 604_801}},
        {"spec.poll.intervalSeconds", "spec.jobs.pendingTimeoutSeconds"},
    ),
}


def manifest(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "workpool-operator.dev/v1alpha1",
        "kind": "WorkPoolBinding",
        "metadata": {"name": "etl"},
        "spec": {key: part for key, part in {**SPEC, **spec}.items() if part is not ...},
    }


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {})


@pytest.fixture
def refused(crd, kube, namespace):
    """The paths that the API server names when it refuses to create the binding."""

    async def refused(binding: dict[str, Any]) -> set[str]:
        path = f"/apis/{binding['apiVersion']}/namespaces/{namespace}/workpoolbindings"
        answer = await kube.http.post(path, params={"dryRun": "All"}, json=binding)
        details = answer.json().get("details", {})
        return {cause["field"] for cause in details.get("causes", [])} - {RULES_NOT_EVALUATED}

    return refused


@pytest.mark.parametrize(("spec", "paths"), SPECS.values(), ids=SPECS.keys())
async def test_a_binding_is_refused_offline_where_the_api_server_refuses_it(
    refused, command, spec, paths
):
    binding = manifest(spec)
    result = await command("validate", "-o", "json", command.write("binding.json", binding))
    found = json.loads(result.out)
    assert {finding["path"] for finding in found["findings"]} == paths
    assert result.code == (1 if paths else 0)
    assert covers(paths, await refused(binding))


def covers(paths: set[str], named: set[str]) -> bool:
    """The API server evaluates rules only if no type is wrong."""
    return named <= paths and bool(named) == bool(paths)


async def test_what_kubectl_prints_is_valid(binding, command, cluster, namespace):
    await binding()
    printed = cluster.kubectl.run("get", "wpb", f"--namespace={namespace}", "--output=yaml")
    result = await command("validate", "-", stdin=printed)
    assert result.code == 0
    assert result.out.splitlines()[-1].startswith("1 binding valid")


async def test_a_pool_as_prefects_api_returns_it_is_valid(api, pool, command):
    inspected = command.write("pool.json", await api.read_pool(pool))
    result = await command("validate", inspected)
    assert (result.code, result.out) == (0, "1 work pool valid\n")


async def test_prefects_server_refuses_the_placeholders_that_validate_refuses(api, pool, command):
    template = stock_template(nodeSelector="{{ node_selektor }}")
    result = await command("validate", command.write("template.json", template))
    assert result.code == 1
    assert "'{{ node_selektor }}'" in result.out
    answer = await api.http.patch(f"/work_pools/{pool}", json={"base_job_template": template})
    assert answer.status_code == 422
    assert "node_selektor" in answer.text


def test_every_error_of_every_file_is_reported_with_its_position(command):
    bad = yaml.safe_dump_all(
        [manifest({"suspend": "x"}), {"kind": "Namespace", "apiVersion": "v1"}]
    )
    (command.home / "bad.yaml").write_text(bad)
    (command.home / "broken.yaml").write_text("a: [")
    result = command.run(
        "validate", command.home / "bad.yaml", command.home / "broken.yaml", "nowhere"
    )
    lines = result.out.splitlines()
    assert result.code == 1
    assert lines[0].endswith(
        "bad.yaml:8:3: error: spec.suspend: must be true or false, is a string"
    )
    assert "broken.yaml:2:1: error: is not valid YAML or JSON" in lines[1]
    assert lines[2] == "nowhere:1:1: error: cannot be read: No such file or directory"
    assert lines[3] == "3 errors, 0 warnings"
    assert result.err == "note: skipped 1 object of other kinds\n"


def test_validate_without_a_file_is_wrong_usage(command):
    assert command.run("validate").code == 2


async def test_the_job_variables_of_a_deployment_file_are_checked_as_the_server_does(
    api, pool, prefect_server, command
):
    variables = {
        "image": "registry.example/flows:1",
        "finished_job_ttl": "soon",
        "image_pull_policy": "Sometimes",
        "imge": "a:1",
    }
    deployments = [
        {"name": "wrong", "work_pool": {"name": pool, "job_variables": variables}},
        {"name": "none", "work_pool": {"name": f"{pool}-2", "job_variables": variables}},
    ]
    file = command.write("prefect.yaml", {"deployments": deployments})
    done = await command("validate", file, PREFECT_API_URL=prefect_server.url)
    assert done.code == 1
    prefix = "deployments[0].work_pool.job_variables"
    for name in ("finished_job_ttl", "image_pull_policy", "imge"):
        assert f"error: {prefix}.{name}: " in done.out
    # Pools of other tests may have similar names, too: the closest comes first.
    hint = rf"has no work pool '{pool}-2'\. Did you mean '{pool}'( or '[^']+')*\?;"
    assert re.search(hint, done.out)
    assert done.out.splitlines()[-1] == "4 errors, 0 warnings"

    async def refused(name: str) -> bool:
        try:
            await api.create_deployment(
                flow="hello", name=name, pool=pool, job_variables={name: variables[name]}
            )
        except httpx.HTTPStatusError as error:
            return error.response.status_code in (409, 422)
        return False

    assert {name: await refused(name) for name in variables} == {
        "image": False,
        "finished_job_ttl": True,
        "image_pull_policy": True,
        "imge": False,  # it is stored, and has no effect
    }
