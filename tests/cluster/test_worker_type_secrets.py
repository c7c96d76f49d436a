"""A worker of our type on a server with basic authentication, and a pool of the stock type."""

from __future__ import annotations

import json
from pathlib import Path

from testbed.clusters import Cluster
from tests.support.deployments import Deployer
from tests.support.kube import Kube
from tests.support.prefect import GUARDED_AUTH, PrefectApi
from tests.support.worker_type import WorkerProcess, environment


async def test_the_auth_string_reaches_a_run_and_is_never_disclosed(
    auth_server: str,
    auth_api: PrefectApi,
    auth_pool: str,
    kube: Kube,
    namespace: str,
    cluster: Cluster,
    run_image: str,
    tmp_path: Path,
) -> None:
    """docs/conformance.md, 47."""
    auth = {"PREFECT_API_AUTH_STRING": GUARDED_AUTH}
    env = environment(url=auth_server, home=tmp_path, kubeconfig=cluster.kubeconfig, **auth)
    worker = WorkerProcess.start(auth_pool, log=tmp_path / "log", env=env)
    try:
        await worker.says("started!")
        deploy = Deployer(auth_api, kube, namespace, auth_pool, run_image)
        deployment = await deploy("hello", namespace=namespace)
        run = await auth_api.create_run(deployment["id"])
        await auth_api.wait_for_state(run["id"], "COMPLETED")
    finally:
        worker.kill()
    jobs = await kube.list("jobs", namespace)
    assert len(jobs) == 1
    readable = [worker.log, json.dumps(jobs), json.dumps(await kube.list("pods", namespace))]
    readable += [json.dumps(await kube.list("events", namespace)), *await auth_api.logs(run["id"])]
    for text in readable:
        assert GUARDED_AUTH not in text
        assert GUARDED_AUTH.partition(":")[2] not in text
