"""Claims of a whole operator, on real servers (docs/races.md, 5, 7)."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import Call, FaultProxy
from tests.support.kube import Kube
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi

SET_STATE = r"/set_state$"


async def test_race_05_a_binding_that_is_created_again_knows_the_claims_of_its_predecessor(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    suspended_pool: Object,
    suspended_run: Object,
    kube_proxy: FaultProxy,
    operator: Any,
    binding: Any,
    tmp_path: Any,
) -> None:
    """Its uid is another then; claimed, and killed before the Job, the run still gets one Job."""
    lost = kube_proxy.on("POST", r"/jobs$", query="^$").drop()  # a dry run has a query
    spec = {"workPool": {"name": suspended_pool["name"]}}
    await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    served = await binding(**spec)
    await lost.wait()
    await served.delete()
    await served.gone()
    assert (await api.read_run(suspended_run["id"]))["state_type"] == "PENDING"
    kube_proxy.forget()
    await binding(**spec)
    await api.wait(suspended_run["id"], until=lambda run: bool(run["infrastructure_pid"]))
    assert len(await kube.list("jobs", namespace)) == 1
    assert [name for name in await api.state_names(suspended_run["id"]) if name == "Pending"] == [
        "Pending"
    ]


async def test_race_07_a_refused_claim_is_not_repeated_before_the_time_that_it_names(
    api: PrefectApi,
    suspended_pool: Object,
    prefect_proxy: FaultProxy,
    prefect_server: Endpoint,
    operator: Any,
    binding: Any,
) -> None:
    """With a prefetch beyond the refusal's 30 s each refusal's own event would bring the next.

    Another run takes the slot of the deployment between its poll and the claim.
    """
    deployment = await api.create_deployment(
        flow="hello",
        name=suspended_pool["name"],
        pool=suspended_pool["name"],
        concurrency_limit=1,
        concurrency_options={"collision_strategy": "ENQUEUE"},
    )
    limit = f"{prefect_server.url}/v2/concurrency_limits/deployment:{deployment['id']}"

    def take(_: Call) -> None:
        httpx.patch(limit, json={"active_slots": 1})

    prefect_proxy.on("POST", "/deployments/filter").once().after().run(take)
    waiting = (await api.create_run(deployment["id"]))["id"]
    await operator()
    await binding(
        workPool={"name": suspended_pool["name"]},
        server={"url": prefect_proxy.url},
        poll={"intervalSeconds": 1, "prefetchSeconds": 120},
    )
    await api.wait(
        waiting, until=lambda run: run["state_name"] == "AwaitingConcurrencySlot", seconds=60
    )
    before = len(prefect_proxy.calls(waiting + SET_STATE))
    polls = len(prefect_proxy.calls("get_scheduled_flow_runs"))
    await poll(
        lambda: _calls(prefect_proxy, "get_scheduled_flow_runs"),
        until=lambda count: count >= polls + 5,
    )
    assert len(prefect_proxy.calls(waiting + SET_STATE)) == before


async def _calls(proxy: FaultProxy, path: str) -> int:
    return len(proxy.calls(path))
