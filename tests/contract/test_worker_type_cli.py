"""Our worker type in Prefect's own command line, with only our package next to Prefect."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from importlib.util import find_spec
from pathlib import Path

import pytest

from testbed.clusters import Cluster
from tests.support.endpoint import Endpoint
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi
from tests.support.worker_type import TYPE, WorkerProcess, environment, prefect
from workpool_operator.worker import KubernetesJobWorker

IMPORT = "import sys, workpool_operator.worker; print(*sys.modules)"


def test_the_stock_worker_is_not_installed_here() -> None:
    assert find_spec("prefect_kubernetes") is None


async def test_prefect_prints_our_default_template(
    prefect_server: Endpoint, tmp_path: Path
) -> None:
    env = environment(url=prefect_server.url, home=tmp_path)
    command = ("work-pool", "get-default-base-job-template", "--type", TYPE)
    template = json.loads(await prefect(*command, env=env))
    assert template == KubernetesJobWorker.get_default_base_job_template()
    assert template["job_configuration"]["job_manifest"]["kind"] == "Job"


async def test_prefects_commands_create_and_serve_a_pool_of_our_type(
    api: PrefectApi, prefect_server: Endpoint, cluster: Cluster, tmp_path: Path
) -> None:
    """The worker also emits its events, started and stopped, under its own name and type."""
    pool = f"cli-{uuid.uuid4().hex[:8]}"
    env = environment(url=prefect_server.url, home=tmp_path, kubeconfig=cluster.kubeconfig)
    await prefect("work-pool", "create", "--type", TYPE, pool, env=env)
    created = await api.read_pool(pool)
    assert created["type"] == TYPE
    assert created["base_job_template"] == KubernetesJobWorker.get_default_base_job_template()
    name = f"cli {uuid.uuid4().hex[:8]}"
    options = ("--run-once", "--prefetch-seconds", "3", "--with-healthcheck")
    env |= {"PREFECT_WORKER_WEBSERVER_PORT": "0"}
    worker = WorkerProcess.start(pool, *options, log=tmp_path / "log", env=env, name=name)
    try:
        assert await worker.ended() == 0, worker.log
    finally:
        worker.kill()
    assert "started!" in worker.log
    (listed,) = await api.workers(pool)
    assert listed["name"] == name

    async def emitted() -> set[str]:
        return {event["event"] for event in await events_of(api, name)}

    both = {"prefect.worker.started", "prefect.worker.stopped"}
    await poll(emitted, until=lambda seen: both <= seen)
    await api.delete_pool(pool)


async def events_of(api: PrefectApi, worker: str) -> list[Object]:
    slug = worker.replace(" ", "-")
    wanted = {"resource": {"id": [f"prefect.worker.{TYPE}.{slug}"]}}
    found = await api.one("POST", "/events/filter", {"filter": wanted})
    events: list[Object] = found["events"]
    return events


async def test_prefect_lists_our_type_among_the_worker_types(
    prefect_server: Endpoint, tmp_path: Path
) -> None:
    env = environment(url=prefect_server.url, home=tmp_path)
    command = ("work-pool", "get-default-base-job-template", "--type", "no-such-type")
    with pytest.raises(AssertionError, match=TYPE):
        await prefect(*command, env=env)


def test_the_type_is_registered_without_kubernetes_or_kopf() -> None:
    """Prefect imports it whenever it lists worker types, in run pods and servers, too."""
    loaded = subprocess.check_output([sys.executable, "-c", IMPORT], text=True)
    modules = {name.partition(".")[0] for name in loaded.split()}
    assert modules.isdisjoint({"kopf", "kubernetes_asyncio", "aiohttp", "typer"})


def test_the_type_has_a_description_a_logo_and_a_link_to_its_documentation() -> None:
    assert KubernetesJobWorker.get_documentation_url().startswith("https://")
    assert KubernetesJobWorker.get_logo_url().endswith(".png")
    assert "Kubernetes Job" in KubernetesJobWorker.get_description()
