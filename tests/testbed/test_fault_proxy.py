"""Each fault of the proxy, against the real Prefect server and the real kube-apiserver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from testbed.clusters import Cluster
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, path
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi

SET_STATE = r"/set_state$"


@pytest.fixture
async def proxied(prefect_proxy: FaultProxy) -> AsyncIterator[PrefectApi]:
    """The Prefect server as seen through the proxy."""
    async with PrefectApi(prefect_proxy.url) as client:
        yield client


@pytest.fixture
async def run(api: PrefectApi, pool: str) -> Object:
    """A flow run that waits to be claimed."""
    deployment = await api.create_deployment(flow="hello", name=pool, pool=pool)
    return await api.create_run(deployment["id"])


async def state_of(api: PrefectApi, run: Object) -> str:
    return str((await api.read_run(run["id"]))["state_type"])


# Requests


async def test_a_request_that_no_rule_matches_passes_and_is_recorded(
    prefect_proxy: FaultProxy, proxied: PrefectApi, run: Object
) -> None:
    assert (await proxied.read_run(run["id"]))["id"] == run["id"]
    assert (await proxied.set_state(run["id"], "PENDING"))["status"] == "ACCEPT"
    read, claimed = prefect_proxy.calls(run["id"])
    assert (read.method, read.status, claimed.method) == ("GET", 200, "POST")
    assert claimed.path.endswith("/set_state")
    assert json.loads(claimed.body)["state"]["type"] == "PENDING"
    assert claimed.seconds is not None
    assert len(prefect_proxy.calls(SET_STATE, method="POST")) == 1


async def test_a_dropped_request_never_reaches_the_server(
    prefect_proxy: FaultProxy, api: PrefectApi, proxied: PrefectApi, run: Object
) -> None:
    prefect_proxy.on("POST", SET_STATE).drop()
    with pytest.raises(httpx.TransportError):
        await proxied.set_state(run["id"], "PENDING")
    assert await state_of(api, run) == "SCHEDULED"
    assert prefect_proxy.calls(SET_STATE)[0].status is None


async def test_a_request_with_a_lost_answer_is_still_carried_out(
    prefect_proxy: FaultProxy, api: PrefectApi, proxied: PrefectApi, run: Object
) -> None:
    prefect_proxy.on("POST", SET_STATE).after().drop()
    with pytest.raises(httpx.TransportError):
        await proxied.set_state(run["id"], "PENDING")
    assert await state_of(api, run) == "PENDING"


async def test_an_answer_that_replaces_the_servers_has_the_status_and_headers_of_the_rule(
    prefect_proxy: FaultProxy, proxied: PrefectApi, run: Object
) -> None:
    prefect_proxy.on("GET", run["id"]).nth(2).answer(429, headers={"Retry-After": "7"})
    answers = [await proxied.http.get(f"/flow_runs/{run['id']}") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 200]
    assert answers[1].headers["Retry-After"] == "7"


async def test_an_answer_can_hide_that_the_request_was_carried_out(
    prefect_proxy: FaultProxy, api: PrefectApi, proxied: PrefectApi, run: Object
) -> None:
    prefect_proxy.on("POST", SET_STATE).after().answer(500, json={"detail": "broken"})
    with pytest.raises(httpx.HTTPStatusError, match="broken"):
        await proxied.set_state(run["id"], "PENDING")
    assert await state_of(api, run) == "PENDING"


async def test_a_rule_applies_only_to_the_body_that_it_names(
    prefect_proxy: FaultProxy, proxied: PrefectApi, run: Object
) -> None:
    rule = prefect_proxy.on("POST", SET_STATE, body='"RUNNING"').answer(503)
    assert (await proxied.set_state(run["id"], "PENDING"))["status"] == "ACCEPT"
    assert rule.fired == []
    with pytest.raises(httpx.HTTPStatusError, match="503"):
        await proxied.set_state(run["id"], "RUNNING")
    assert len(rule.fired) == 1


async def test_a_delayed_request_takes_as_long_as_its_rule_says(
    prefect_proxy: FaultProxy, proxied: PrefectApi, run: Object
) -> None:
    prefect_proxy.on("GET", run["id"]).once().delay(0.5)
    await proxied.read_run(run["id"])
    seconds = prefect_proxy.calls(run["id"])[0].seconds
    assert seconds is not None
    assert 0.5 <= seconds < 5


async def test_a_held_request_arrives_after_its_sender_gave_up(
    prefect_proxy: FaultProxy, api: PrefectApi, proxied: PrefectApi, run: Object
) -> None:
    rule = prefect_proxy.on("POST", SET_STATE).hold()
    proxied.http.timeout = 0.3
    with pytest.raises(httpx.ReadTimeout):
        await proxied.set_state(run["id"], "PENDING")
    assert await state_of(api, run) == "SCHEDULED"
    rule.release()
    await api.wait_for_state(run["id"], "PENDING", seconds=5)


@pytest.mark.parametrize(("after", "state"), [(False, "SCHEDULED"), (True, "PENDING")])
async def test_a_process_is_killed_before_or_after_its_request(
    prefect_proxy: FaultProxy, api: PrefectApi, run: Object, after: bool, state: str
) -> None:
    url = f"{prefect_proxy.url}/flow_runs/{run['id']}/set_state"
    body = json.dumps({"state": {"type": "PENDING"}})
    match = prefect_proxy.on("POST", SET_STATE)
    rule = (match.after() if after else match).kill(lambda: client.pid)
    # It waits for its input, so that its process is known before its request can be answered.
    command = ("sh", "-c", 'read _ && exec curl -s --json "$1" "$2"', "sh", body, url)
    client = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    assert client.stdin
    client.stdin.write(b"\n")
    await rule.wait()
    assert await client.wait() == -9
    assert await state_of(api, run) == state


async def test_a_function_sees_the_request_before_the_server_does(
    prefect_proxy: FaultProxy, proxied: PrefectApi, run: Object
) -> None:
    seen: list[str] = []
    prefect_proxy.on("*", run["id"]).run(lambda call: seen.append(call.method))
    await proxied.read_run(run["id"])
    assert seen == ["GET"]


async def test_an_outage_ends_and_nothing_passed_meanwhile(
    prefect_proxy: FaultProxy, proxied: PrefectApi, run: Object
) -> None:
    with prefect_proxy.offline(), pytest.raises(httpx.TransportError):
        await proxied.read_run(run["id"])
    await proxied.read_run(run["id"])
    assert len(prefect_proxy.calls(run["id"])) == 1


async def test_forgetting_drops_rules_and_records(
    prefect_proxy: FaultProxy, proxied: PrefectApi, run: Object
) -> None:
    prefect_proxy.on("GET", run["id"]).answer(500)
    with pytest.raises(httpx.HTTPStatusError):
        await proxied.read_run(run["id"])
    prefect_proxy.forget()
    assert prefect_proxy.calls() == []
    await proxied.read_run(run["id"])


# Prefect's websockets


def connected(proxy: FaultProxy) -> websockets.connect:
    url = f"{proxy.url.replace('http', 'ws', 1)}/events/out"
    return websockets.connect(url, subprotocols=[websockets.Subprotocol("prefect")], proxy=None)


async def subscribe(socket: websockets.ClientConnection, run: Object) -> None:
    await socket.send(json.dumps({"type": "auth", "token": None}))
    assert json.loads(await socket.recv())["type"] == "auth_success"
    chosen = {"id": [f"prefect.flow-run.{run['id']}"]}
    period = {"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
    wanted = {"resource": chosen, "occurred": period}
    await socket.send(json.dumps({"type": "filter", "filter": wanted, "backfill": False}))


async def test_events_pass_until_the_websocket_is_cut(
    prefect_proxy: FaultProxy, api: PrefectApi, run: Object
) -> None:
    async with connected(prefect_proxy) as socket:
        await subscribe(socket, run)
        await asyncio.sleep(0.5)  # the server says nothing when the filter is in place
        await api.set_state(run["id"], "PENDING")
        async with asyncio.timeout(10):
            event = json.loads(await socket.recv())["event"]
            assert event["event"] == "prefect.flow-run.Pending"
            prefect_proxy.cut("/events/out$")
            with pytest.raises(websockets.ConnectionClosedError):
                await socket.recv()
    assert prefect_proxy.calls("/events/out$")[0].status == 101


async def test_a_websocket_can_be_refused(prefect_proxy: FaultProxy) -> None:
    prefect_proxy.on("GET", "/events/out$").answer(403)
    with pytest.raises(websockets.InvalidStatus, match="403"):
        await connected(prefect_proxy)


async def test_the_servers_own_closing_code_passes(prefect_proxy: FaultProxy) -> None:
    async with connected(prefect_proxy) as socket:
        await socket.send(json.dumps({"type": "not auth"}))
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await asyncio.wait_for(socket.recv(), 10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == websockets.CloseCode.POLICY_VIOLATION


# Kubernetes


@pytest.fixture
async def watched(kube_proxy: FaultProxy) -> AsyncIterator[Kube]:
    """The API server as seen through the proxy."""
    async with Kube(Endpoint(kube_proxy.url)) as client:
        yield client


def config_map(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


async def watch(kube: Kube, namespace: str) -> AsyncIterator[Object]:
    """The watch events of the namespace's ConfigMaps, from the next one on."""
    target = path("configmaps", namespace)
    version = (await kube.http.get(target)).json()["metadata"]["resourceVersion"]
    query = {"watch": "true", "resourceVersion": version}
    async with kube.http.stream("GET", target, params=query) as response:
        async for line in response.aiter_lines():
            yield json.loads(line)


async def test_a_watch_passes_each_event_at_once_until_it_is_cut(
    kube_proxy: FaultProxy, kube: Kube, watched: Kube, namespace: str
) -> None:
    events = watch(watched, namespace)
    seen: list[str] = []

    async def follow() -> None:
        async for event in events:
            seen.append(event["object"]["metadata"]["name"])

    following = asyncio.create_task(follow())

    async def are_open() -> int:
        return len([call for call in kube_proxy.calls() if call.query and call.status])

    await poll(are_open, until=lambda number: number == 1, seconds=5)
    await kube.create("configmaps", namespace, config_map("first"))

    async def names() -> list[str]:
        return seen

    await poll(names, until=lambda names: "first" in names, seconds=5)
    kube_proxy.cut("/configmaps$")
    with pytest.raises(httpx.TransportError):
        await asyncio.wait_for(following, 5)
    assert any(
        cm["metadata"]["name"] == "first" for cm in await watched.list("configmaps", namespace)
    )


async def test_a_watch_can_be_answered_that_its_resource_version_expired(
    kube_proxy: FaultProxy, watched: Kube, namespace: str
) -> None:
    gone: dict[str, Any] = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}
    kube_proxy.on("GET", "/configmaps$", query="watch=").answer(200, json=gone)
    assert [event async for event in watch(watched, namespace)] == [gone]


async def test_an_object_is_created_although_its_answer_is_lost(
    kube_proxy: FaultProxy, kube: Kube, watched: Kube, namespace: str
) -> None:
    kube_proxy.on("POST", "/configmaps$").after().drop()
    with pytest.raises(httpx.TransportError):
        await watched.create("configmaps", namespace, config_map("created"))
    assert await kube.get("configmaps", namespace, "created") is not None


async def test_a_kubeconfig_that_leads_to_the_proxy_has_the_clusters_rights(
    kube_proxy: FaultProxy, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    config = kube_proxy.write_kubeconfig(tmp_path / "kubeconfig")
    kubectl = replace(cluster.kubectl, kubeconfig=config)
    found = await asyncio.to_thread(kubectl.run, "get", "namespace", namespace, "-oname")
    assert found == f"namespace/{namespace}\n"
    assert len(kube_proxy.calls(f"/namespaces/{namespace}$", method="GET")) == 1


async def test_a_request_with_a_token_of_its_own_has_only_that_users_rights(
    kube_proxy: FaultProxy, kube: Kube, namespace: str, tmp_path: Path
) -> None:
    await kube.create("serviceaccounts", namespace, {"metadata": {"name": "tester"}})
    target = f"{path('serviceaccounts', namespace, 'tester')}/token"
    answer = await kube.http.post(target, json={"spec": {}})
    token = answer.raise_for_status().json()["status"]["token"]
    config = kube_proxy.write_kubeconfig(tmp_path / "kubeconfig", token=token)
    async with Kube(Endpoint.of_kubeconfig(config)) as restricted:
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            await restricted.list("configmaps", namespace)
