"""Clients and events, on real servers (docs/races.md, 19 to 22)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from tests.contract.conftest import make_run
from tests.support.binding import Binding
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import GUARDED_AUTH, Object, PrefectApi
from workpool_operator.errors import PrefectRefused
from workpool_operator.prefect_api.client import PrefectApi as OwnApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.events import EventStream, StateChange

StartOperator = Callable[..., Awaitable[Operator]]
Bind = Callable[..., Awaitable[Binding]]
LEAK = "of-the-operators-environment"


@pytest.fixture
async def listener() -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """Serve something other than Prefect; yield its URL and the headers of each request."""
    received: list[dict[str, str]] = []

    async def hear(request: web.Request) -> web.Response:
        received.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"detail": "nothing here"}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/api", received
    await runner.cleanup()


async def test_race_19_credentials_and_headers_of_the_operators_environment_reach_no_server(
    listener: tuple[str, list[dict[str, str]]],
    operator: StartOperator,
    binding: Bind,
) -> None:
    url, received = listener
    await operator(
        ready=False,
        PREFECT_API_KEY=LEAK,
        PREFECT_API_AUTH_STRING=LEAK,
        PREFECT_CLIENT_CUSTOM_HEADERS=f'{{"X-Leak": "{LEAK}"}}',
    )
    await binding(server={"url": url})

    async def requests() -> int:
        return len(received)

    await poll(requests, until=lambda count: count >= 3)
    assert all(LEAK not in value for headers in received for value in headers.values())
    assert not any("authorization" in headers or "x-leak" in headers for headers in received)


def test_race_20_the_root_logger_has_one_handler_and_it_is_the_operators() -> None:
    """The operator relies on this: Prefect's import adds one handler and starts no thread."""
    program = """
import logging, threading
import workpool_operator.app
before = len(logging.getLogger().handlers)
from workpool_operator import logs
logs.configure("INFO", "text")
import prefect.workers.base
(handler,) = logging.getLogger().handlers
assert type(handler) is logging.StreamHandler, handler
logging.getLogger("prefect.anything").warning("seen once")
assert threading.active_count() == 1, threading.enumerate()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("seen once") == 1


async def listen(
    server: PrefectEndpoint, pool: Object, changed: Callable[[StateChange], None]
) -> asyncio.Task[Any]:
    opened: asyncio.Queue[str | None] = asyncio.Queue()
    pool_id, connected = UUID(pool["id"]), opened.put_nowait
    stream = EventStream(server, pool_id=pool_id, changed=changed, connected=connected)
    task = asyncio.create_task(stream.run())
    async with asyncio.timeout(20):
        why = await opened.get()
    if why is not None:
        task.cancel()
        raise ConnectionRefusedError(why)
    return task


async def test_race_21_events_of_a_server_with_an_auth_string_are_received(
    auth_server: str,
) -> None:
    received: asyncio.Queue[StateChange] = asyncio.Queue()
    async with PrefectApi(auth_server, auth_string=GUARDED_AUTH) as api:
        pool = await api.create_pool(f"guarded-{uuid.uuid4().hex[:8]}")
        server = PrefectEndpoint(auth_server, auth_string=GUARDED_AUTH)
        task = await listen(server, pool, received.put_nowait)
        run = await make_run(api, pool)
        async with asyncio.timeout(10):
            assert await received.get() == StateChange(
                UUID(run["id"]),
                "SCHEDULED",
                state_name="Scheduled",
                state_id=UUID(run["state_id"]),
                deployment_id=UUID(run["deployment_id"]),
                queue="default",
            )
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("auth", [None, "admin:wrong"])
async def test_race_21_a_wrong_auth_string_is_refused_everywhere(
    auth_server: str, auth: str | None
) -> None:
    server = PrefectEndpoint(auth_server, auth_string=auth)
    async with OwnApi(server, pool="any") as api:
        with pytest.raises(PrefectRefused) as caught:
            await api.work_pool()
    assert caught.value.status == 401
    with pytest.raises(ConnectionRefusedError):
        await listen(server, {"id": str(UUID(int=1))}, lambda _: None)


async def test_race_22_the_event_of_a_new_run_wakes_the_poll(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    suspended_pool: Object,
    operator: StartOperator,
    binding: Bind,
    prefect_proxy: FaultProxy,
) -> None:
    await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        server={"url": prefect_proxy.url},
        poll={"intervalSeconds": 55},
    )
    await served.ready()

    async def streams() -> int:
        return len([call for call in prefect_proxy.calls("/events/out") if call.status == 101])

    await poll(streams, until=bool)
    await asyncio.sleep(2)
    await make_run(api, suspended_pool)
    await poll(lambda: kube.list("jobs", namespace), until=bool, seconds=30)


async def test_a_start_reads_kubernetes_and_prefect_once_and_events_of_other_queues_cause_no_poll(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    suspended_pool: Object,
    operator: StartOperator,
    binding: Bind,
    prefect_proxy: FaultProxy,
) -> None:
    """The event stream opens first, so nothing has to be read again after it."""
    queues = f"/work_pools/{suspended_pool['name']}/queues"
    for name in ("ours", "theirs"):
        await api.one("POST", queues, {"name": name})
    await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        workQueues=["ours"],
        server={"url": prefect_proxy.url},
        poll={"intervalSeconds": 55},
    )
    await served.ready()
    await make_run(api, suspended_pool, work_queue_name="theirs")
    await asyncio.sleep(3)
    assert len(prefect_proxy.calls("/flow_runs/filter")) == 2
    assert len(prefect_proxy.calls("/get_scheduled_flow_runs")) == 1
    await make_run(api, suspended_pool, work_queue_name="ours")
    await poll(lambda: kube.list("jobs", namespace), until=bool, seconds=30)


async def test_race_22_runs_without_an_event_are_found_by_the_next_poll(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    suspended_pool: Object,
    operator: StartOperator,
    binding: Bind,
    prefect_proxy: FaultProxy,
) -> None:
    """Such as those that the server's own scheduler creates."""
    prefect_proxy.on("*", "/events/out").answer(403)
    await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        server={"url": prefect_proxy.url},
        poll={"intervalSeconds": 3},
    )
    await served.ready()
    await make_run(api, suspended_pool)
    await poll(lambda: kube.list("jobs", namespace), until=bool, seconds=30)


async def test_race_22_a_cancellation_while_the_event_stream_is_down_is_noticed_after_it(
    api: PrefectApi,
    suspended_pool: Object,
    operator: StartOperator,
    binding: Bind,
    prefect_proxy: FaultProxy,
) -> None:
    """Polls return only SCHEDULED runs, so missed events are made up for by reads."""
    await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]}, server={"url": prefect_proxy.url}
    )
    await served.ready()
    run = await make_run(api, suspended_pool)
    await api.wait(run["id"], until=lambda it: bool(it["infrastructure_pid"]))
    with prefect_proxy.offline():
        await api.cancel(run["id"])
        await asyncio.sleep(1)
    await api.wait_for_state(run["id"], "CANCELLED")
