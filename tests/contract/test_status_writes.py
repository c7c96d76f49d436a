"""The status, Events and log of a binding: correct, readable, and written only on changes."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.support.polling import poll
from tests.support.promises import AT_ONCE, IN_HALF_A_MINUTE


@pytest.fixture
def watched(operator, kube_proxy, tmp_path):
    """`await watched()` starts an operator whose requests to the API server are counted."""

    async def start():
        return await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))

    return start


def status_writes(kube_proxy) -> list[float]:
    return [call.began for call in kube_proxy.calls("/workpoolbindings/.*/status$", method="PATCH")]


async def test_the_status_of_an_idle_binding_is_written_every_30_s(binding, watched, kube_proxy):
    await watched()
    served = await binding(poll={"intervalSeconds": 1})
    await served.ready()
    await asyncio.sleep(2)
    kube_proxy.forget()

    async def writes() -> list[float]:
        return status_writes(kube_proxy)

    await poll(writes, until=bool, seconds=IN_HALF_A_MINUTE)
    await asyncio.sleep(6)
    assert len(await writes()) == 1, "lastPollTime moves, and nothing else"
    assert len(kube_proxy.calls("/workpoolbindings", method="PATCH")) == 1


async def test_the_status_of_a_busy_binding_is_written_at_most_once_a_second(
    api, deploy, binding, watched, kube_proxy
):
    await watched()
    served = await binding()
    await served.ready()
    deployment = await deploy("hello", command="true")
    for number in range(6):
        await api.create_run(deployment["id"])
        await served.patch(suspend=bool(number % 2))
        await asyncio.sleep(0.7)
    writes = status_writes(kube_proxy)
    assert len(writes) >= 4
    gaps = [later - earlier for earlier, later in itertools.pairwise(writes)]
    assert min(gaps) > 0.95


async def test_conditions_have_the_current_generation_and_change_time_only_with_their_status(
    binding, operator
):
    await operator()
    served = await binding()
    before = await served.ready()
    await asyncio.sleep(1.1)  # lastTransitionTime has whole seconds
    changed = await served.patch(suspend=True)
    after = await served.condition("Ready", "True", reason="Suspended", seconds=AT_ONCE)
    assert after["observedGeneration"] == changed["metadata"]["generation"]
    assert after["lastTransitionTime"] == before["lastTransitionTime"]
    status = (await served.read())["status"]
    assert status["observedGeneration"] == changed["metadata"]["generation"]
    moved = await served.patch(server={"url": "http://127.0.0.1:1/api"})
    failed = await served.condition("Ready", "False", seconds=AT_ONCE)
    assert failed["observedGeneration"] == moved["metadata"]["generation"]
    assert failed["lastTransitionTime"] > before["lastTransitionTime"]


async def test_a_lasting_fault_is_one_log_line_and_one_event(
    kube, namespace, binding, operator, prefect_proxy
):
    process = await operator()
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    known = len(process.log.splitlines())
    with prefect_proxy.offline():
        await served.condition("Ready", "False", seconds=AT_ONCE)
        await asyncio.sleep(10)
    await served.ready(seconds=AT_ONCE)
    lines = process.log.splitlines()[known:]
    assert len([line for line in lines if "Ready=False" in line]) <= 2, "one per wording"
    assert len(lines) <= 8, "\n".join(lines)  # a slow machine has two wordings of the cause
    assert "Traceback" not in process.log
    announced = [("Normal", "Polling"), ("Warning", "ConnectionFailed"), ("Normal", "Polling")]
    await poll(lambda: events_on_bindings(kube, namespace), until=lambda seen: seen == announced)


async def events_on_bindings(kube, namespace) -> list[tuple[str, str]]:
    events = await kube.list("events", namespace)
    about = [event for event in events if event["involvedObject"]["kind"] == "WorkPoolBinding"]
    return [(it["type"], it["reason"]) for it in sorted(about, key=lambda it: it["eventTime"])]


async def test_an_outage_of_kubernetes_is_logged_once_and_survived(
    api, deploy, binding, watched, kube_proxy
):
    process = await watched()
    served = await binding()
    await served.ready()
    known = len(process.log.splitlines())
    with kube_proxy.offline():
        for _ in range(12):
            await asyncio.sleep(1)
            assert await process.probe("healthz") == 200
    run = await api.create_run((await deploy("hello", command="true"))["id"])
    await api.wait_for_state(run["id"], "PENDING", "RUNNING", "CRASHED")
    await served.ready()
    lines = [line for line in process.log.splitlines()[known:] if run["id"] not in line]
    warnings = [line.split(maxsplit=2)[2] for line in lines if "WARNING" in line]
    assert len(set(warnings)) == len(warnings), "\n".join(lines)
    assert len(lines) <= 16, "\n".join(lines)
    assert "Traceback" not in process.log


async def test_kubectl_shows_the_state_of_a_binding(
    cluster, namespace, pool, binding, operator, prefect_server
):
    await operator()
    served = await binding()
    await served.ready()
    header, row = cluster.kubectl.run("get", "wpb", "--namespace", namespace).splitlines()
    columns = ["NAME", "POOL", "READY", "STATUS", "RUNNING", "QUEUED", "LAST", "POLL", "AGE"]
    assert header.split() == columns
    assert row.split()[:6] == ["pool", pool, "True", "Polling", "0", "0"]
    wide = cluster.kubectl.run("get", "prefect", "--namespace", namespace, "--output=wide")
    assert prefect_server.url in wide
    assert "Due runs are claimed." in wide
    described = cluster.kubectl.run("describe", "wpb", "pool", "--namespace", namespace)
    assert "workpool-operator  Due runs are claimed." in described.partition("Events:")[2]
