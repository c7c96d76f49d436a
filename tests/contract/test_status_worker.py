"""A binding is one worker in Prefect, under one name, for as long as it exists."""

from __future__ import annotations

import pytest

from tests.support.binding import Binding
from tests.support.polling import poll
from tests.support.promises import AT_ONCE, SOON


async def test_the_pool_is_ready_and_its_worker_keeps_its_name_over_a_restart(
    api, pool, binding, operator
):
    first = await operator()
    served = await binding()
    await served.ready()
    [worker] = await api.workers(pool)
    assert worker["status"] == "ONLINE"
    assert worker["name"] == (await served.read())["status"]["workerName"]
    assert (await api.read_pool(pool))["status"] == "READY"
    assert await first.terminate() == 0
    assert [w["id"] for w in await api.workers(pool)] == [worker["id"]], "stopped, not deleted"
    await operator()
    await poll(
        lambda: api.workers(pool),
        until=lambda workers: workers[0]["last_heartbeat_time"] > worker["last_heartbeat_time"],
        seconds=SOON,
    )
    assert [w["id"] for w in await api.workers(pool)] == [worker["id"]]


async def test_a_binding_is_the_worker_that_its_spec_names_and_a_new_name_replaces_the_old_one(
    api, pool, binding, operator
):
    await operator()
    served = await binding(workerName="Team A, k8s")
    await served.ready()
    assert [worker["name"] for worker in await api.workers(pool)] == ["Team A, k8s"]
    await served.patch(workerName="Team B")
    await served.wait(lambda status: status["workerName"] == "Team B")
    await poll(
        lambda: api.workers(pool),
        until=lambda workers: [worker["name"] for worker in workers] == ["Team B"],
        seconds=SOON,
    )
    await served.ready(seconds=SOON)
    await served.condition("PoolShared", "False", reason="Alone", seconds=SOON)


async def test_a_deleted_binding_and_its_worker_disappear_within_seconds(
    api, pool, binding, operator
):
    await operator()
    served = await binding()
    await served.ready()
    await served.delete()
    await served.gone(seconds=AT_ONCE)
    assert await api.workers(pool) == []


async def test_a_binding_can_be_deleted_while_prefect_is_down(binding, operator, prefect_proxy):
    process = await operator()
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    with prefect_proxy.offline():
        await served.delete()
        await served.gone(seconds=AT_ONCE)
    await process.says("where it stays as offline")


async def test_a_binding_can_be_deleted_while_prefect_does_not_answer(
    binding, operator, prefect_proxy
):
    process = await operator()
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    prefect_proxy.on("DELETE", "/workers/").hold()
    await served.delete()
    await served.gone(seconds=AT_ONCE)
    await process.says("timed out")
    prefect_proxy.forget()


async def test_a_changed_address_of_the_server_is_used_without_a_restart(
    api, kube, namespace, deploy, binding, operator, prefect_proxy, prefect_server
):
    await operator()
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    await served.patch(
        server={"url": prefect_server.url}, jobs={"serverURL": "http://prefect.test/api"}
    )
    await served.condition("Ready", "True", reason="Polling", seconds=SOON)
    prefect_proxy.forget()
    await api.create_run((await deploy("hello", command="true"))["id"])
    [job] = await poll(lambda: kube.list("jobs", namespace), until=lambda jobs: jobs != [])
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "PREFECT_API_URL", "value": "http://prefect.test/api"} in environment
    assert prefect_proxy.calls() == [], "the old address is not used any more"


@pytest.fixture
async def second_pool(api, pool):
    name = f"{pool}-b"
    await api.create_pool(name)
    yield name
    await api.delete_pool(name)


@pytest.fixture
async def second_namespace(kube, namespace):
    name = f"{namespace}-b"
    labels = (await kube.get("namespaces", "", namespace))["metadata"]
    kept = {key: labels[key] for key in ("labels", "annotations")}
    await kube.create("namespaces", "", {"metadata": {"name": name, **kept}})
    yield name
    await kube.delete("namespaces", "", name)


async def test_bindings_in_the_same_and_in_other_namespaces_are_served_separately(
    api, kube, second_namespace, pool, second_pool, binding, operator, prefect_server
):
    await operator(also_in=second_namespace)
    first = await binding("first")
    second = await binding("second", workPool={"name": second_pool})
    elsewhere = Binding(kube, second_namespace, "first")
    server = {"url": prefect_server.url}
    await elsewhere.apply(workPool={"name": pool}, server=server)
    for served in (first, second, elsewhere):
        await served.ready()
    of_pool = {worker["name"] for worker in await api.workers(pool)}
    of_second = {worker["name"] for worker in await api.workers(second_pool)}
    assert (len(of_pool), len(of_second), len(of_pool | of_second)) == (2, 1, 3)
    await elsewhere.delete()
    await elsewhere.gone(seconds=AT_ONCE)
    assert len(await api.workers(pool)) == 1
