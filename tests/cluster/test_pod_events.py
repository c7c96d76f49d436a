"""Prefect has an event for each phase of real pods, and none twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from workpool_operator.runs.pod_events import INTERVAL_SECONDS

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]


async def test_the_phases_of_pods_are_events_which_the_next_operator_does_not_repeat(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    pool: str,
    serve: Serve,
    launch: Launch,
    operator: Callable[..., Awaitable[Operator]],
    prefect_proxy: FaultProxy,
) -> None:
    """docs/conformance.md, 51, 53, 56, 60. No run waits for its events."""
    held = prefect_proxy.on("POST", r"/events$").once().hold()
    process = await serve(server={"url": prefect_proxy.url})
    blocked, completed = await launch(image="localhost/no-such-image:1"), await launch("hello")
    await api.wait_for_state(completed["id"], "COMPLETED")
    held.release()
    happy = await api.pod_events(completed["id"], count=3)
    stuck = await api.pod_events(blocked["id"], count=2)
    assert [names(event) for event in happy] == [
        ("pending", None),
        ("running", None),
        ("succeeded", None),
    ]
    assert sorted(map(names, stuck), key=str) == [
        ("pending", "ImagePullError"),
        ("pending", None),
    ]
    assert [event["follows"] for event in happy] == [None, happy[0]["id"], happy[1]["id"]]
    roles = {each["prefect.resource.role"]: each for each in happy[0]["related"]}
    assert list(roles) == ["flow-run", "deployment", "flow", "work-pool", "worker"]
    assert roles["flow-run"]["prefect.resource.name"] == completed["name"]
    assert roles["work-pool"]["prefect.resource.name"] == pool

    await process.terminate()
    prefect_proxy.forget()
    await operator()

    async def asked() -> int:
        return len(prefect_proxy.calls(r"/events/filter$"))

    await poll(asked, until=bool)
    await asyncio.sleep(2 * INTERVAL_SECONDS)
    assert prefect_proxy.calls(r"/events$") == []
    assert len(await api.pod_events(completed["id"], count=3)) == 3


def names(event: Object) -> tuple[str, Any]:
    """Return the phase and the diagnosis."""
    return event["event"].rpartition(".")[2], event["resource"].get("kubernetes.diagnosis")
