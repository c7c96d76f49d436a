"""One line for a pool that is served, one for a run of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from testbed.clusters import Cluster
from tests.support.binding import Binding
from tests.support.deployments import Deployer
from tests.support.kube import Object
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi


@pytest.fixture
def serve(
    operator: Callable[..., Awaitable[Operator]], binding: Callable[..., Awaitable[Binding]]
) -> Callable[..., Awaitable[Operator]]:
    """`await serve(concurrencyLimit=1)`: an operator, and a binding of that spec, Ready."""

    async def serve(**spec: Any) -> Operator:
        process = await operator()
        await (await binding(**spec)).ready()
        return process

    return serve


@pytest.fixture
def launch(api: PrefectApi, deploy: Deployer) -> Callable[..., Awaitable[Object]]:
    """`await launch("sleep", {"seconds": 5}, memory_limit="64Mi")`: a run with those parameters
    and job variables, due now."""

    async def launch(
        flow: str = "hello", parameters: Object | None = None, **job_variables: Any
    ) -> Object:
        deployment = await deploy(flow)
        fields: Object = {"parameters": parameters or {}, "job_variables": job_variables}
        return await api.create_run(deployment["id"], **fields)

    return launch


@pytest.fixture
def injected(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Add a first container to each new pod of the namespace, as a service mesh does."""
    patch = (
        'JSONPatch{op: "add", path: "/spec/containers/0", value: Object.spec.containers{'
        'name: "mesh", image: object.spec.containers[0].image, imagePullPolicy: "IfNotPresent",'
        'command: ["sleep", "3600"]}}'
    )
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy: Object = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": namespace},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": here,
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
            },
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{patch}]"}}],
        },
    }
    bound: Object = {
        "apiVersion": policy["apiVersion"],
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace},
    }
    for manifest in (policy, bound):
        cluster.kubectl.run("create", "-f-", stdin=json.dumps(manifest))
    yield
    for manifest in (bound, policy):
        cluster.kubectl.run("delete", manifest["kind"].lower(), namespace)
