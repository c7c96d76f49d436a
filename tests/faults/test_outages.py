"""Either server, or only its streams, is down for a while: no run is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.faults.conftest import Past
from tests.support.deployments import Deployer
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.kube import Object
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi

OUTAGE_SECONDS = 10
Quick = Callable[..., Awaitable[Object]]


async def test_runs_complete_after_an_outage_of_the_prefect_server(
    api: PrefectApi, prefect_proxy: FaultProxy, past: Past, served: Operator, quick: Quick
) -> None:
    before = await quick(seconds=3)
    await api.wait_for_state(before["id"], "RUNNING")
    with prefect_proxy.offline():
        meanwhile = await quick()
        await asyncio.sleep(OUTAGE_SECONDS)
        assert await served.probe("healthz") == 200
    for run in (before, meanwhile):
        await api.wait_for_state(run["id"], "COMPLETED")
    assert len(past.pods.seen) == 2


async def test_the_end_of_a_pod_is_explained_after_an_outage_of_the_prefect_server(
    api: PrefectApi, prefect_proxy: FaultProxy, past: Past, served: Operator, deploy: Deployer
) -> None:
    deployment = await deploy("hello", command="sh -c 'sleep 3; exit 7'")
    run = await api.create_run(deployment["id"])
    await past.pods.until(bool)
    with prefect_proxy.offline():
        await asyncio.sleep(OUTAGE_SECONDS)
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "exited with code 7" in run["state"]["message"]


async def test_runs_complete_after_an_outage_of_the_api_server(
    api: PrefectApi, kube_proxy: FaultProxy, past: Past, served: Operator, quick: Quick
) -> None:
    before = await quick(seconds=3)
    await api.wait_for_state(before["id"], "RUNNING")
    with kube_proxy.offline():
        meanwhile = await quick()
        await asyncio.sleep(OUTAGE_SECONDS)
        assert await served.probe("healthz") == 200
    for run in (before, meanwhile):
        await api.wait_for_state(run["id"], "COMPLETED")
    assert len(past.pods.seen) == 2
    said = await api.state_names(meanwhile["id"])  # the second of two refusals is reported
    said = [name for name in said if name != "KubernetesUnavailable"]
    assert said == ["Scheduled", "Pending", "Running", "Completed"]


async def test_the_end_of_a_pod_is_explained_after_an_outage_of_the_api_server(
    api: PrefectApi, kube_proxy: FaultProxy, past: Past, served: Operator, deploy: Deployer
) -> None:
    deployment = await deploy("hello", command="sh -c 'sleep 3; echo no such table; exit 7'")
    run = await api.create_run(deployment["id"])
    await past.pods.until(bool)
    with kube_proxy.offline():
        await asyncio.sleep(OUTAGE_SECONDS)
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "exited with code 7" in run["state"]["message"]
    assert "no such table" in run["state"]["message"]


async def test_runs_complete_while_every_stream_is_cut_repeatedly(
    api: PrefectApi,
    prefect_proxy: FaultProxy,
    kube_proxy: FaultProxy,
    past: Past,
    served: Operator,
    quick: Quick,
) -> None:
    runs = []
    for _ in range(5):
        runs.append(await quick())
        prefect_proxy.cut()
        kube_proxy.cut()
        await asyncio.sleep(0.5)
    for run in runs:
        await api.wait_for_state(run["id"], "COMPLETED")
    assert len(past.pods.seen) == len(runs)


async def test_a_run_in_backoff_is_reconciled_as_soon_as_the_api_server_is_back(
    kube_proxy: FaultProxy, past: Past, served: Operator, quick: Quick
) -> None:
    refused = kube_proxy.on("POST", r"/jobs$", query="^$").answer(503)
    await quick()
    await poll(lambda: _count(refused), until=lambda count: count >= 4)
    kube_proxy.forget()
    kube_proxy.cut()
    await past.jobs.until(bool, seconds=4)  # by itself it would wait for 8


async def _count(rule: Rule) -> int:
    return len(rule.fired)


async def test_runs_start_immediately_again_once_a_proxy_stops_refusing_the_event_stream(
    api: PrefectApi, prefect_proxy: FaultProxy, past: Past, served: Operator, quick: Quick
) -> None:
    """A 502 means a server that restarts, not one without an event stream."""
    refused = prefect_proxy.on("GET", r"/events/out$").once().answer(502)
    opened = prefect_proxy.on("GET", r"/events/out$").nth(2).run(lambda call: None)
    prefect_proxy.cut(r"/events/out$")
    await refused.wait()
    await opened.wait()
