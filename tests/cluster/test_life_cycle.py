"""Starts and stops of the operator while pods run, and its start on a cluster without its CRD."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.support.binding import Binding
from tests.support.deployments import QUICK
from tests.support.endpoint import Endpoint
from tests.support.kube import Kube
from tests.support.nodes import own_node
from tests.support.operator import PROGRAM, Operator
from tests.support.promises import AT_ONCE


async def test_flows_continue_while_the_operator_is_stopped_and_are_followed_after_its_restart(
    api, kube, namespace, deploy, binding, operator
):
    process = await operator()
    served = await binding()
    await served.ready()
    run = await api.create_run((await deploy("hello", command=f"{QUICK} 40"))["id"])
    await api.wait_for_state(run["id"], "RUNNING")
    [before] = await kube.list("jobs", namespace)
    began = time.monotonic()
    assert await process.terminate() == 0
    assert time.monotonic() - began < AT_ONCE
    [after] = await kube.list("jobs", namespace)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["active"] == 1
    assert (await api.read_run(run["id"]))["state_type"] == "RUNNING"
    await operator()
    await served.wait(lambda status: status["runs"]["running"] == 1)
    await api.wait_for_state(run["id"], "COMPLETED")
    await served.wait(lambda status: status["runs"]["running"] == 0)
    assert len(await kube.list("jobs", namespace)) == 1


@pytest.fixture
def bare_node():
    node = own_node()
    node.up()
    yield node
    node.down()


async def test_the_operator_waits_for_its_crd_and_survives_its_deletion(
    bare_node, api, pool, prefect_server, tmp_path
):
    log = tmp_path / "operator.log"
    process = Operator.start(namespaces=[], kubeconfig=bare_node.kubeconfig, log=log)
    try:
        await process.says("the CustomResourceDefinition of WorkPoolBinding is missing")
        assert "workpool-operator crd | kubectl apply" in await process.complaint("readyz")
        assert await process.probe("healthz") == 200
        async with Kube(Endpoint.of_kubeconfig(bare_node.kubeconfig)) as kube:
            spec = {"workPool": {"name": pool}, "server": {"url": prefect_server.url}}
            name = apply_crd(bare_node)
            for namespace in ("team-a", "team-b"):
                await bind(kube, namespace, spec)
            assert len(await api.workers(pool)) == 2
            await kube.delete("customresourcedefinitions", "", name)
            await kube.wait("customresourcedefinitions", "", name, until=lambda crd: crd is None)
            assert await api.workers(pool) == []
            apply_crd(bare_node)
            await bind(kube, "team-c", spec)
        assert await process.probe("healthz") == 200
        assert await process.terminate() == 0
        assert "Traceback" not in process.log
    finally:
        process.kill()


def apply_crd(node) -> str:
    manifest = subprocess.check_output([PROGRAM, "crd"], text=True)
    name = node.kubectl.run("apply", "--server-side", "-f-", "-oname", stdin=manifest).strip()
    node.kubectl.run("wait", "--for=condition=Established", name, "--timeout=30s")
    return name.partition("/")[2]


async def bind(kube: Kube, namespace: str, spec: dict) -> Binding:
    await kube.create("namespaces", "", {"metadata": {"name": namespace}})
    binding = Binding(kube, namespace, "pool")
    await binding.apply(**spec)
    await binding.ready(seconds=90)
    return binding
