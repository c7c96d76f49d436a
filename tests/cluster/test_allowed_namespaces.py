"""A flow runs in a namespace that its deployment chose, with credentials that it needs there."""

from __future__ import annotations

from tests.support.deployments import Deployer
from tests.support.prefect import GUARDED_AUTH


async def test_a_flow_completes_in_the_namespace_that_its_deployment_chose(
    kube, namespace, other_namespace, binding, operator, auth_server, auth_api, auth_pool, run_image
):
    await operator()
    secret = {"metadata": {"name": "prefect"}, "stringData": {"auth": GUARDED_AUTH}}
    await kube.create("secrets", namespace, secret)
    served = await binding(
        server={
            "url": auth_server,
            "authString": {"secretKeyRef": {"name": "prefect", "key": "auth"}},
        },
        jobs={"allowedNamespaces": [other_namespace]},
    )
    await served.ready()
    deploy = Deployer(auth_api, kube, other_namespace, auth_pool, run_image)
    deployment = await deploy("hello", namespace=other_namespace)
    run = await auth_api.create_run(deployment["id"])
    await auth_api.wait_for_state(run["id"], "COMPLETED")
    (job,) = await kube.list("jobs", other_namespace)
    assert (await auth_api.read_run(run["id"]))["infrastructure_pid"] == (
        f"{other_namespace}:{job['metadata']['name']}"
    )
