"""The operator's process: its start, outages, its end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time

import httpx
import pytest

from tests.support.operator import PROGRAM
from tests.support.promises import AT_ONCE, SOON


async def test_sigterm_ends_the_operator_within_5_s_and_the_status_says_so(
    binding, operator, pool, api
):
    process = await operator()
    served = await binding()
    await served.ready()
    async with httpx.AsyncClient(trust_env=False) as prober:
        await prober.get(f"{process.health}/healthz")  # the connection stays open
        began = time.monotonic()
        assert await process.terminate() == 0
        assert time.monotonic() - began < AT_ONCE
    ready = await served.condition("Ready", "Unknown", reason="OperatorStopped", seconds=1)
    assert "Start it again" in ready["message"]
    assert "Traceback" not in process.log
    await operator()
    await served.ready()


async def test_sigterm_ends_the_operator_within_5_s_while_no_server_answers(
    binding, operator, prefect_proxy, kube_proxy, tmp_path
):
    process = await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    prefect_proxy.on("*", "/").hold()
    kube_proxy.on("*", "/").hold()
    began = time.monotonic()
    assert await process.terminate() == 0
    assert time.monotonic() - began < AT_ONCE
    prefect_proxy.forget()
    kube_proxy.forget()


async def test_an_operator_that_starts_in_an_outage_of_kubernetes_serves_after_it(
    binding, operator, kube_proxy, tmp_path
):
    kubeconfig = kube_proxy.write_kubeconfig(tmp_path / "kubeconfig")
    served = await binding()
    with kube_proxy.offline():
        process = await operator(kubeconfig=kubeconfig, ready=False)
        await process.says("the Kubernetes API does not answer")
        assert "does not answer" in await process.complaint("readyz")
        assert await process.probe("healthz") == 200
    await served.ready()
    assert process.log.count("does not answer") == 1
    assert await process.probe("readyz") == 200


async def test_the_operator_is_not_ready_before_it_has_listed_the_jobs(
    binding, operator, kube_proxy, tmp_path
):
    rule = kube_proxy.on("GET", "/jobs$").hold()
    process = await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    served = await binding()
    await rule.wait()
    assert "is not synced" in await process.complaint("readyz")
    assert await process.probe("healthz") == 200
    rule.release()
    await process.ready()
    await served.ready()


async def test_the_watch_of_bindings_restarts_after_errors(binding, operator, kube_proxy, tmp_path):
    process = await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    served = await binding()
    await served.ready()
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd is ill"}}
    kube_proxy.on("GET", "/workpoolbindings$", query="watch").once().answer(200, json=error)
    kube_proxy.cut("/workpoolbindings$")
    await process.says("the watch of WorkPoolBindings ended")
    await served.patch(suspend=True)
    await served.condition("Ready", "True", reason="Suspended", seconds=SOON)
    assert process.daemon.exit_code is None
    assert "Traceback" not in process.log
    assert await process.terminate() == 0, "a restart of the watch keeps the signals"


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("WORKPOOL_OPERATOR_LOG_LEVEL", "nonsense", "must be 'DEBUG', 'INFO'"),
        ("WORKPOOL_OPERATOR_HEALTH_PORT", "http", "must be a valid integer"),
        ("KUBECONFIG", "/does/not/exist", "the kubeconfig /does/not/exist does not exist"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_line_with_its_value(setting, value, problem):
    ended = run_operator(**{setting: value})
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("workpool-operator: ")
    assert problem in line
    assert value in line


def test_a_port_in_use_is_reported_in_one_line(cluster):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_operator("--health-port", str(port), KUBECONFIG=str(cluster.kubeconfig))
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert f"port {port} cannot serve /healthz" in line
    assert "--health-port" in line


def run_operator(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "run", *arguments],
        env=os.environ | {"WORKPOOL_OPERATOR_HEALTH_PORT": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_an_older_crd_is_reported_with_the_fields_that_it_drops(
    crd, cluster, binding, operator, kube_proxy, tmp_path
):
    path = "/openapi/v3/apis/workpool-operator.dev/v1alpha1"
    served = json.loads(cluster.kubectl.run("get", f"--raw={path}"))
    schema = served["components"]["schemas"]["dev.workpool-operator.v1alpha1.WorkPoolBinding"]
    del schema["properties"]["spec"]["properties"]["jobs"]["properties"]["patches"]
    kube_proxy.on("GET", path).answer(200, json=served)
    process = await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    outdated = await (await binding()).condition("CRDOutdated", "True", seconds=SOON)
    assert "drops spec.jobs.patches. Replace it: workpool-operator crd" in outdated["message"]
    assert process.log.count(outdated["message"]) == 1
