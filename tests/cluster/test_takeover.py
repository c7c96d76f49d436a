"""A binding takes over a pool of the stock worker, and its runs behave the same.

The stock worker and then the operator run the same five deployments; neither the pool nor a
deployment changes in between.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from testbed.clusters import Cluster
from tests.support.deployments import Deployer
from tests.support.endpoint import Endpoint
from tests.support.kube import Kube
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.stock_worker import StockWorker

Object = dict[str, Any]
ENDS = {
    "hello": "COMPLETED",
    "print_environment": "COMPLETED",
    "sleep": "COMPLETED",
    "raise_error": "FAILED",
    "exit_without_report": "CRASHED",
}
PARAMETERS: dict[str, Object] = {
    "print_environment": {"names": ["TEAM", "TOKEN", "REGION"]},
    "sleep": {"seconds": 1},
}


@pytest.mark.timeout(900)
async def test_five_deployments_of_the_stock_worker_run_the_same_under_a_binding(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    pool: str,
    cluster: Cluster,
    prefect_server: Endpoint,
    deploy: Deployer,
    binding: Any,
    operator: Any,
    tmp_path: Any,
) -> None:
    deployments = await five_deployments(api, kube, deploy)
    stock = StockWorker(
        pool=pool,
        namespace=namespace,
        url=prefect_server.url,
        kubeconfig=cluster.kubeconfig,
        folder=tmp_path,
    )
    before = await untouched(api, pool, deployments)
    with stock.running():
        by_stock = {flow: await run_of(api, deployments[flow], flow) for flow in ENDS}
        await ended(api, by_stock)
    await operator()
    await (await binding()).ready()
    by_us = {flow: await run_of(api, deployments[flow], flow) for flow in ENDS}
    await ended(api, by_us)
    jobs = await kube.list("jobs", namespace)
    for flow in ENDS:
        assert pod_of(jobs, by_us[flow]) == pod_of(jobs, by_stock[flow]), flow
    assert await untouched(api, pool, deployments) == before


async def five_deployments(api: PrefectApi, kube: Kube, deploy: Deployer) -> dict[str, Object]:
    """Create what its users have: environments, blocks, variables, labels, resources."""
    token, region = f"token-{deploy.pool}", f"region_{deploy.pool}".replace("-", "_")
    await secret_block(api, token, "hush")
    await api.one("POST", "/variables/", {"name": region, "value": "north"})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "etl"}}
    await kube.create("serviceaccounts", deploy.namespace, account)
    variables: dict[str, Object] = {
        "hello": {},
        "print_environment": {
            "env": {
                "TEAM": "etl",
                "TOKEN": f"{{{{ prefect.blocks.secret.{token} }}}}",
                "REGION": f"{{{{ prefect.variables.{region} }}}}",
            }
        },
        "sleep": {
            "labels": {"team": "etl"},
            "annotations": {"example.com/owner": "Data & ETL"},
            "cpu_request": "50m",
            "memory_limit": "512Mi",
            "service_account_name": "etl",
        },
        "raise_error": {"backoff_limit": 2, "finished_job_ttl": 600},
        "exit_without_report": {
            "name": "nightly {{ ctx.flow.name }}",
            "command": "prefect flow-run execute",
        },
    }
    return {
        flow: await deploy(flow, namespace=deploy.namespace, **values)
        for flow, values in variables.items()
    }


async def secret_block(api: PrefectApi, name: str, value: str) -> None:
    kind = await api.one("GET", "/block_types/slug/secret")
    chosen = {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}}
    schema = (await api.many("POST", "/block_schemas/filter", chosen))[0]
    ids = {"block_type_id": kind["id"], "block_schema_id": schema["id"]}
    await api.one("POST", "/block_documents/", {"name": name, "data": {"value": value}, **ids})


async def untouched(api: PrefectApi, pool: str, deployments: dict[str, Object]) -> list[Any]:
    """Return what a user wrote into the pool and the deployments."""
    found = [await api.one("GET", f"/deployments/{each['id']}") for each in deployments.values()]
    fields = ("job_variables", "work_pool_name", "entrypoint", "pull_steps", "parameters")
    served = await api.read_pool(pool)
    return [served["type"], served["base_job_template"], [[d[f] for f in fields] for d in found]]


async def run_of(api: PrefectApi, deployment: Object, flow: str) -> str:
    run = await api.create_run(deployment["id"], parameters=PARAMETERS.get(flow, {}))
    return str(run["id"])


async def ended(api: PrefectApi, runs: dict[str, str]) -> None:
    for flow, run_id in runs.items():
        await api.wait_for_state(run_id, ENDS[flow])
    printed = {"TEAM=etl", "TOKEN=hush", "REGION=north"}
    await poll(  # the pod's last lines can come after its state
        lambda: api.logs(runs["print_environment"]),
        until=lambda lines: printed <= set(lines),
        seconds=30,
    )


def pod_of(jobs: list[Object], run_id: str) -> Object:
    """Return the pod template of the run's Job, without what differs by run or worker."""
    job = next(job for job in jobs if run_id in str(job["metadata"]))
    pod: Object = copy.deepcopy(job["spec"]["template"]["spec"])
    container = pod["containers"][0]
    own = {entry["name"]: entry for entry in container["env"]}
    container["env"] = {name: e for name, e in own.items() if not name.startswith("PREFECT_")}
    return pod | {"backoffLimit": job["spec"]["backoffLimit"]}
