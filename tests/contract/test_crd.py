"""The CustomResourceDefinition as a real API server enforces it, with the messages that users read.

Each message names the field and the rule, and the fix if the rule does not say it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from localnode.errors import SetupError
from testbed import reference

SPEC = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect.svc:4200/api"}}
SECRET = {"secretKeyRef": {"name": "prefect", "key": "api-key"}}
KEY = SECRET["secretKeyRef"]
ID = "1f0a2b3c-0000-4000-8000-00000000000a"
ONE_ADDRESS = "exactly one of url, urlFrom, cloud and ref is needed: it names the Prefect API"
INSECURE = {"insecureSkipVerify": True}
CERTIFICATE = {"clientCertificate": {"secretRef": {"name": "client"}}, "insecureSkipVerify": False}
URL_RULE = "must be the API's address, for example http://prefect-server.prefect.svc:4200/api"
NAME_RULE = "must be a name as Prefect shows it: not empty, without / and %"


def binding(name: str = "etl", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "workpool-operator.dev/v1alpha1",
        "kind": "WorkPoolBinding",
        "metadata": {"name": name},
        "spec": {field: part for field, part in {**SPEC, **spec}.items() if part is not None},
    }


@pytest.fixture
def create(crd, kube, namespace) -> Callable[..., Any]:
    async def create(name: str = "etl", **spec: Any) -> Any:
        return await kube.create("workpoolbindings", namespace, binding(name, **spec))

    return create


@pytest.fixture
def change(crd, kube, namespace) -> Callable[..., Any]:
    """Apply a merge patch to the spec, in which None removes a field."""

    async def change(**spec: Any) -> Any:
        return await kube.patch("workpoolbindings", namespace, "etl", {"spec": spec})

    return change


def message(refusal: pytest.ExceptionInfo[httpx.HTTPStatusError]) -> str:
    return str(refusal.value.response.json()["message"])


ACCEPTED = {
    "the shortest": {},
    "a pool of our own type": {"workPool": {"name": "etl", "type": "kubernetes-operator"}},
    "a pool whose name has blanks and umlauts": {"workPool": {"name": "Größe L, k8s"}},
    "queues": {"workQueues": ["high", "Low priority"]},
    "a server behind TLS with a path": {"server": {"url": "https://api.prefect.cloud/api/a/b"}},
    "an API key": {"server": {**SPEC["server"], "apiKey": SECRET}},
    "an auth string": {"server": {**SPEC["server"], "authString": SECRET}},
    "the lowest numbers": {
        "concurrencyLimit": 1,
        "poll": {"intervalSeconds": 1, "prefetchSeconds": 0},
        "jobs": {"ttlSecondsAfterFinished": 0, "pendingTimeoutSeconds": 10},
    },
    "the highest numbers": {
        "concurrencyLimit": 100_000,
        "poll": {"intervalSeconds": 55, "prefetchSeconds": 3600},
        "jobs": {"ttlSecondsAfterFinished": 2_592_000, "pendingTimeoutSeconds": 604_800},
    },
    "another namespace and address for Jobs": {
        "jobs": {"namespace": "runs", "serverURL": "http://10.0.0.1:4200/api"}
    },
    "a key with fewer rights for run pods": {
        "server": {**SPEC["server"], "apiKey": SECRET},
        "jobs": {"namespace": "runs", "apiKey": SECRET},
    },
    "an address in a ConfigMap": {"server": {"urlFrom": {"configMapKeyRef": KEY}}},
    "a workspace of Prefect Cloud": {
        "server": {"cloud": {"accountID": ID, "workspaceID": ID}, "apiKey": SECRET}
    },
    "a server of prefect-operator": {"server": {"ref": {"name": "prefect", "namespace": "ops"}}},
    "a pool of prefect-operator": {"workPool": {"ref": {"name": "etl"}}, "server": None},
    "a client certificate": {
        "server": {**SPEC["server"], "tls": CERTIFICATE},
        "jobs": {"serverURL": "http://prefect.svc:4200/api"},
    },
    "a server that is not verified": {"server": {**SPEC["server"], "tls": INSECURE}},
    "a worker's name": {"workerName": "Team A, k8s"},
    "what every Job has": {
        "jobs": {
            "env": [
                {"name": "STAGE", "value": "prod"},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {**KEY, "optional": True}}},
            ],
            "labels": {"team": "data", "example.com/cost-center": "4711"},
            "annotations": {"example.com/notes": "any text"},
            "patches": [
                {"op": "add", "path": "/spec/template/spec/tolerations", "value": [{"key": "a"}]},
                {"op": "move", "path": "/spec/suspend", "from": "/spec/template/spec/x~1y"},
            ],
        }
    },
    "environments in Secrets": {"jobs": {"environmentSecret": True}},
    "a suspended one": {"suspend": True},
}


@pytest.mark.parametrize("spec", ACCEPTED.values(), ids=ACCEPTED.keys())
async def test_a_valid_binding_is_stored_unchanged(create, spec):
    stored = (await create(**spec))["spec"]
    for field, part in spec.items():
        if part is None:
            continue
        assert stored[field] == ({**stored[field], **part} if isinstance(part, dict) else part)


async def test_the_examples_of_the_reference_are_stored_unchanged(create):
    for number, example in enumerate(reference.examples()):
        name = f"example-{number}"
        stored = (await create(name, **{"server": None, **example["spec"]}))["spec"]
        for field, part in example["spec"].items():
            assert stored[field] == ({**stored[field], **part} if isinstance(part, dict) else part)


REFUSED = {
    "neither pool nor object": (
        {"workPool": {}},
        "spec.workPool: exactly one of name and ref is needed: it names the work pool",
    ),
    "a pool of prefect-operator that is to be created": (
        {
            "workPool": {"ref": {"name": "etl"}, "creationPolicy": "IfNotPresent"},
            "server": {},
        },
        "spec.workPool: prefect-operator creates the pool of ref and keeps its template: leave "
        "creationPolicy and baseJobTemplate out",
    ),
    "a template that is to be kept, and none is named": (
        {"workPool": {"name": "etl", "syncPolicy": "IfUnchanged"}},
        "spec.workPool: syncPolicy needs a template: set baseJobTemplate.configMapKeyRef",
    ),
    "no pool": ({"workPool": None}, "spec.workPool: Required value"),
    "no server": ({"server": None}, f"spec.server: {ONE_ADDRESS}"),
    "an empty pool name": ({"workPool": {"name": ""}}, f'spec.workPool.name: "": {NAME_RULE}'),
    "a slash in the pool name": (
        {"workPool": {"name": "a/b"}},
        f'spec.workPool.name: "a/b": {NAME_RULE}',
    ),
    "a pool name that is too long": (
        {"workPool": {"name": "a" * 201}},
        "spec.workPool.name: Too long: may not be more than 200 bytes",
    ),
    "a reserved pool name": (
        {"workPool": {"name": "Prefect-etl"}},
        'spec.workPool.name: "Prefect-etl": is reserved: Prefect does not allow work pools whose '
        "name starts with 'prefect'",
    ),
    "an unknown pool type": (
        {"workPool": {"name": "etl", "type": "docker"}},
        'spec.workPool.type: Unsupported value: "docker": supported values: "kubernetes", '
        '"kubernetes-operator"',
    ),
    "no queue": (
        {"workQueues": []},
        "spec.workQueues: name a queue, or leave workQueues out to serve all queues",
    ),
    "a queue twice": (
        {"workQueues": ["high", "low", "high"]},
        'spec.workQueues[2]: Duplicate value: "high"',
    ),
    "an empty queue": ({"workQueues": [""]}, f'spec.workQueues[0]: "": {NAME_RULE}'),
    "a slash in a queue": ({"workQueues": ["a/b"]}, f'spec.workQueues[0]: "a/b": {NAME_RULE}'),
    "no address of the server": ({"server": {}}, f"spec.server: {ONE_ADDRESS}"),
    "two addresses of the server": (
        {"server": {**SPEC["server"], "ref": {"name": "prefect"}}},
        f"spec.server: {ONE_ADDRESS}",
    ),
    "an address from two objects": (
        {"server": {"urlFrom": {"secretKeyRef": KEY, "configMapKeyRef": KEY}}},
        "set exactly one of configMapKeyRef and secretKeyRef",
    ),
    "a workspace without an API key": (
        {"server": {"cloud": {"accountID": ID, "workspaceID": ID}}},
        "spec.server: cloud requires an API key: set apiKey.secretKeyRef",
    ),
    "a workspace by its name": (
        {"server": {"cloud": {"accountID": "acme", "workspaceID": ID}, "apiKey": SECRET}},
        'spec.server.cloud.accountID: "acme": must be an id as in the address of Prefect Cloud: '
        "8-4-4-4-12 hexadecimal digits",
    ),
    "a CA that would have no effect": (
        {"server": {**SPEC["server"], "caBundle": {"secretKeyRef": KEY}, "tls": INSECURE}},
        "spec.server: tls.insecureSkipVerify ignores caBundle: keep caBundle, which verifies the "
        "server",
    ),
    "a client certificate that run pods do not have": (
        {"server": {**SPEC["server"], "tls": CERTIFICATE}},
        "spec.server: tls.clientCertificate requires jobs.serverURL, an address that run pods can "
        "call without a certificate",
    ),
    "a worker name with a slash": (
        {"workerName": "a/b"},
        f'spec.workerName: "a/b": {NAME_RULE}',
    ),
    "a variable that the operator sets": (
        {"jobs": {"env": [{"name": "PREFECT_API_KEY", "value": "x"}]}},
        'spec.jobs.env[0].name: "PREFECT_API_KEY": is set by the operator: use serverURL, apiKey, ',
    ),
    "a variable with two values": (
        {"jobs": {"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": KEY}}]}},
        "value and valueFrom exclude each other: keep one of them",
    ),
    "a variable from nowhere": (
        {"jobs": {"env": [{"name": "A", "valueFrom": {}}]}},
        "set exactly one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef",
    ),
    "a label of the operator": (
        {"jobs": {"labels": {"team": "a", "workpool-operator.dev/flow-run-id": "x"}}},
        "workpool-operator.dev/flow-run-id: is reserved for the operator: choose another prefix",
    ),
    "a label that cannot exist": (
        {"jobs": {"labels": {"team": "a b"}}},
        "team: must have the value of a label: letters, digits, -, _ and .",
    ),
    "an annotation of the operator": (
        {"jobs": {"annotations": {"prefect.io/flow-run-id": "x"}}},
        "prefect.io/flow-run-id: is reserved for the operator: choose another prefix",
    ),
    "a patch of the whole Job": (
        {"jobs": {"patches": [{"op": "replace", "path": "", "value": {}}]}},
        "must be a JSON pointer below the Job, such as /spec/template/spec/priorityClassName",
    ),
    "a pool by name and by object": (
        {"workPool": {"name": "etl", "ref": {"name": "etl"}}, "server": {}},
        "spec.workPool: exactly one of name and ref is needed: it names the work pool",
    ),
    "another server than that of the pool's object": (
        {"workPool": {"ref": {"name": "etl"}}},
        "spec.server: workPool.ref names the server: leave url, urlFrom, cloud and ref out",
    ),
    "an address without scheme": (
        {"server": {"url": "prefect:4200/api"}},
        f'spec.server.url: "prefect:4200/api": {URL_RULE}',
    ),
    "another address without scheme": (
        {"jobs": {"serverURL": "ftp://prefect/api"}},
        f'spec.jobs.serverURL: "ftp://prefect/api": {URL_RULE}',
    ),
    "two kinds of credentials": (
        {"server": {**SPEC["server"], "apiKey": SECRET, "authString": SECRET}},
        "spec.server: apiKey and authString exclude each other: keep the one your server uses",
    ),
    "two kinds of credentials for run pods": (
        {"jobs": {"apiKey": SECRET, "authString": SECRET}},
        "spec.jobs: apiKey and authString exclude each other: keep the one your server uses",
    ),
    "a credential in plain text": (
        {"server": {**SPEC["server"], "apiKey": "pnu_secret"}},
        'spec.server.apiKey: "string": spec.server.apiKey in body must be of type object',
    ),
    "a Secret without key": (
        {"server": {**SPEC["server"], "apiKey": {"secretKeyRef": {"name": "prefect"}}}},
        "spec.server.apiKey.secretKeyRef.key: Required value",
    ),
    "a Secret that cannot exist": (
        {"server": {**SPEC["server"], "authString": {"secretKeyRef": {"name": "A", "key": "b"}}}},
        'spec.server.authString.secretKeyRef.name: "A": must be the name of a Secret: lower-case '
        "letters, digits, - and .",
    ),
    "a key that cannot exist": (
        {"server": {**SPEC["server"], "apiKey": {"secretKeyRef": {"name": "a", "key": "b c"}}}},
        'spec.server.apiKey.secretKeyRef.key: "b c": must be a key of the Secret\'s data: letters, '
        "digits, -, _ and .",
    ),
    "a namespace that cannot exist": (
        {"jobs": {"namespace": "Data"}},
        'spec.jobs.namespace: "Data": must be the name of a namespace: lower-case letters, digits '
        "and -",
    ),
    "a limit of zero": (
        {"concurrencyLimit": 0},
        "spec.concurrencyLimit: 0: spec.concurrencyLimit in body should be greater than or equal "
        "to 1",
    ),
    "no time between polls": (
        {"poll": {"intervalSeconds": 0}},
        "spec.poll.intervalSeconds: 0: spec.poll.intervalSeconds in body should be greater than or "
        "equal to 1",
    ),
    "polls too rare for Prefect": (
        {"poll": {"intervalSeconds": 56}},
        "spec.poll.intervalSeconds: 56: spec.poll.intervalSeconds in body should be less than or "
        "equal to 55",
    ),
    "a negative prefetch": (
        {"poll": {"prefetchSeconds": -1}},
        "spec.poll.prefetchSeconds: -1: spec.poll.prefetchSeconds in body should be greater than "
        "or equal to 0",
    ),
    "a negative TTL": (
        {"jobs": {"ttlSecondsAfterFinished": -1}},
        "spec.jobs.ttlSecondsAfterFinished: -1: spec.jobs.ttlSecondsAfterFinished in body should "
        "be greater than or equal to 0",
    ),
    "a timeout too short for any pod": (
        {"jobs": {"pendingTimeoutSeconds": 9}},
        "spec.jobs.pendingTimeoutSeconds: 9: must be 0, for no time-out, or at least 10 seconds",
    ),
}


@pytest.mark.parametrize(("spec", "expected"), REFUSED.values(), ids=REFUSED.keys())
async def test_an_invalid_binding_is_refused_with_field_and_rule(create, spec, expected):
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        await create(**spec)
    assert expected in message(refusal).replace("Invalid value: ", "")


async def test_an_unknown_field_is_refused_with_its_name(crd, cluster, namespace):
    manifest = json.dumps(binding(concurencyLimit=3))
    with pytest.raises(SetupError, match=r'unknown field "spec\.concurencyLimit"'):
        cluster.kubectl.run("create", f"--namespace={namespace}", "--filename=-", stdin=manifest)


async def test_the_api_server_sets_defaults(create):
    spec = (await create(poll={}, jobs={}))["spec"]
    assert spec["workPool"]["type"] == "kubernetes"
    assert spec["poll"] == {"intervalSeconds": 10, "prefetchSeconds": 10}
    assert spec["jobs"] == {
        "ttlSecondsAfterFinished": 3600,
        "pendingTimeoutSeconds": 600,
        "finishedGraceSeconds": 3600,
        "infrastructureRetries": 3,
        "environmentSecret": False,
        "replicatePodEvents": True,
    }
    assert spec["suspend"] is False


async def test_the_pool_of_a_binding_cannot_be_changed(create, change):
    await create()
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        await change(workPool={"name": "other"})
    assert "spec.workPool.name: Invalid value: " in message(refusal)
    assert "workPool.name cannot be changed: create another binding" in message(refusal)


async def test_a_pool_cannot_be_replaced_by_an_object_that_names_one(create, change):
    await create()
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        await change(workPool={"name": None, "ref": {"name": "etl"}}, server={"url": None})
    assert "name and ref cannot replace each other: create another binding" in message(refusal)


@pytest.mark.parametrize(("before", "after"), [("runs", "other"), (None, "runs"), ("runs", None)])
async def test_the_namespace_of_jobs_cannot_be_changed(create, change, before, after):
    await create(jobs={"namespace": before} if before else {"ttlSecondsAfterFinished": 60})
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        await change(jobs={"namespace": after})
    assert "spec.jobs.namespace" in message(refusal)
    assert ": create another binding" in message(refusal)


async def test_all_other_fields_can_be_changed(create, change):
    await create(jobs={"namespace": "runs"})
    url = "https://other/api"
    changed = await change(
        workQueues=["high"],
        server={"url": url, "apiKey": SECRET},
        jobs={"serverURL": url, "ttlSecondsAfterFinished": 1, "pendingTimeoutSeconds": 60},
        concurrencyLimit=5,
        poll={"intervalSeconds": 5},
        suspend=True,
    )
    assert changed["metadata"]["generation"] == 2
    assert changed["spec"]["server"]["url"] == url


async def test_the_status_is_a_subresource(create, kube, namespace):
    created = await create()
    where = ("workpoolbindings", namespace, "etl")
    unchanged = await kube.patch(*where, {"status": {"workerName": "mine"}})
    assert unchanged["status"] == {"observedGeneration": -1, "conditions": []}
    written = await kube.patch(*where, {"status": {"workerName": "mine"}}, subresource="status")
    assert written["status"]["workerName"] == "mine"
    assert written["metadata"]["generation"] == created["metadata"]["generation"]


@pytest.fixture
async def served(create, kube, namespace) -> None:
    """Create a binding with a status as the operator writes it."""
    await create()
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Polling",
        "message": "Due runs are claimed.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    claiming = ready | {"type": "Claiming", "status": "False", "reason": "AtCapacity"}
    runs = {"running": 3, "pending": 2, "queued": 7}
    status = {"conditions": [ready, claiming], "runs": runs, "lastPollTime": "2026-01-01T00:00:00Z"}
    status |= {"workPool": {"name": "etl"}, "server": {"url": SPEC["server"]["url"]}}
    where = ("workpoolbindings", namespace, "etl")
    await kube.patch(*where, {"status": status}, subresource="status")


@pytest.mark.parametrize("name", ["workpoolbindings", "workpoolbinding", "wpb", "prefect"])
async def test_kubectl_get_lists_bindings_by_every_name(served, cluster, namespace, name):
    header, row = cluster.kubectl.run("get", name, f"--namespace={namespace}").splitlines()
    assert " ".join(header.split()) == "NAME POOL READY STATUS RUNNING QUEUED LAST POLL AGE"
    *known, _last_poll, _age = row.split()
    shown = known[0].removeprefix("workpoolbinding.workpool-operator.dev/")
    assert [shown, *known[1:]] == ["etl", "etl", "True", "AtCapacity", "3", "7"]


async def test_kubectl_get_wide_adds_the_server_and_the_message(served, cluster, namespace):
    wide = cluster.kubectl.run("get", "wpb", f"--namespace={namespace}", "--output=wide")
    assert SPEC["server"]["url"] in wide
    assert "Due runs are claimed." in wide


def test_kubectl_explain_describes_a_field(crd, cluster):
    text = cluster.kubectl.run("explain", "wpb.spec.poll.intervalSeconds")
    assert "Seconds between two polls" in text
    assert "Default: 10." in text
