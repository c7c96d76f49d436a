"""What happens to the runs of a binding that is deleted, by its deletionPolicy.

A namespace that is deleted with its binding, servers that are gone and flows of a minute are
extended cases.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from testbed.clusters import Cluster
from tests.support.binding import Binding
from tests.support.deployments import QUICK, template_with_flows
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.pods import shell, template
from tests.support.prefect import PrefectApi

Bind = Callable[..., Awaitable[Binding]]
Launch = Callable[..., Awaitable[Object]]
Operate = Callable[..., Awaitable[Operator]]
TTL = "ttlSecondsAfterFinished"


async def waits(served: Binding, reason: str) -> str:
    """Return what the binding says that it waits for, once it is deleted by this policy."""
    return str((await served.condition("Claiming", "False", reason=reason))["message"])


async def state_of(api: PrefectApi, run: Object) -> str:
    return str((await api.read_run(run["id"]))["state_type"])


async def job_is_over(kube: Kube, namespace: str) -> bool:
    jobs = await kube.list("jobs", namespace)
    return all(job.get("status", {}).get("conditions") for job in jobs)


async def test_a_binding_that_drains_is_deleted_after_its_last_run_and_claims_no_other(
    api: PrefectApi, kube: Kube, namespace: str, launch: Launch, binding: Bind, operator: Operate
) -> None:
    await operator()
    served = await binding(deletionPolicy="Drain")
    await served.ready()
    run = await launch(command=f"{QUICK} 5")
    await api.wait_for_state(run["id"], "RUNNING")
    await served.delete()
    message = await waits(served, "Draining")
    assert "1 running and 0 pending runs" in message
    assert '{"spec":{"deletionPolicy":"Orphan"}}' in message
    assert (await served.ready())["reason"] == "Draining", "nothing is wrong"
    later = await launch(command=QUICK)
    await served.gone(seconds=60)
    assert await state_of(api, run) == "COMPLETED"
    assert await state_of(api, later) == "SCHEDULED"
    [job] = await kube.list("jobs", namespace)
    assert job["spec"][TTL] == 3600, "its end was reported"


async def test_a_binding_that_cancels_ends_claimed_runs_and_leaves_others_scheduled(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    pool: str,
    launch: Launch,
    binding: Bind,
    operator: Operate,
) -> None:
    made = template_with_flows()
    made["job_configuration"]["job_manifest"]["spec"]["suspend"] = "{{ suspend }}"
    made["variables"]["properties"]["suspend"] = {"type": "boolean", "default": False}
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": made})
    await operator()
    served = await binding(deletionPolicy="Cancel", concurrencyLimit=1)
    await served.ready()
    unschedulable = await launch(cpu_request="900")
    await api.wait(unschedulable["id"], until=lambda run: run["state_name"] == "Unschedulable")
    await served.patch(concurrencyLimit=2)
    suspended = await launch(suspend=True)
    await api.wait(suspended["id"], until=lambda run: run["state_name"] == "JobSuspended")
    await served.patch(concurrencyLimit=1)
    unclaimed = await launch()
    await served.wait(lambda status: status["runs"] == {"running": 0, "pending": 2, "queued": 1})
    await served.delete()
    await served.gone(seconds=60)
    for run in (unschedulable, suspended):
        names = await api.state_names(run["id"])
        assert names[-2:] == ["Cancelling", "Cancelled"]
    assert await state_of(api, unclaimed) == "SCHEDULED"
    assert await kube.list("jobs", namespace) == []
    assert await api.workers(pool) == []


@pytest.mark.extended
@pytest.mark.parametrize(
    ("policy", "reason", "end"),
    [("Drain", "Draining", "COMPLETED"), ("Cancel", "Cancelling", "CANCELLED")],
)
async def test_another_replica_continues_to_wait_when_the_holder_is_killed(
    policy: str,
    reason: str,
    end: str,
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    launch: Launch,
    binding: Bind,
    operator: Operate,
) -> None:
    first = await operator()
    served = await binding(deletionPolicy=policy)
    await served.ready()
    run = await launch(command=f"{QUICK} {20 if policy == 'Drain' else 300}")
    await api.wait_for_state(run["id"], "RUNNING")
    await served.delete()
    await waits(served, reason)
    later = await launch(command=QUICK)
    first.kill()
    await operator()
    await served.gone(seconds=150)
    names = await api.state_names(run["id"])
    assert names.count("Cancelling") <= 1
    assert names[-1].upper() == end
    assert await state_of(api, later) == "SCHEDULED"
    jobs = await kube.list("jobs", namespace)
    assert [job["spec"][TTL] for job in jobs] == ([3600] if policy == "Drain" else [])


@pytest.mark.extended
async def test_runs_that_have_started_are_cancelled_with_their_sidecars(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    pool: str,
    run_image: str,
    launch: Launch,
    binding: Bind,
    operator: Operate,
) -> None:
    agent = shell("agent", run_image, "exec sleep 3600")
    made = {"base_job_template": template(first=[agent])}
    await api.request("PATCH", f"/work_pools/{pool}", made)
    await operator()
    served = await binding(deletionPolicy="Cancel")
    await served.ready()
    by_itself = await launch("sleep", {"seconds": 300})
    by_the_operator = await launch(command=f"{QUICK} 300")
    for run in (by_itself, by_the_operator):
        await api.wait_for_state(run["id"], "RUNNING")
    await served.delete()
    assert "2 running" in await waits(served, "Cancelling")
    read = await api.read_run(by_itself["id"])
    assert f"WorkPoolBinding {namespace}/pool is being deleted" in read["state"]["message"]
    await served.gone(seconds=180)
    assert await state_of(api, by_itself) == "CANCELLED"
    ended = await api.read_run(by_the_operator["id"])
    assert ended["state_type"] == "CANCELLED"
    assert "Cancelled by the operator" in ended["state"]["message"]
    assert await job_is_over(kube, namespace)


@pytest.mark.extended
@pytest.mark.parametrize("policy", ["Orphan", "Cancel"])
async def test_a_drain_can_become_another_policy_while_it_waits(
    policy: str,
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    launch: Launch,
    binding: Bind,
    operator: Operate,
) -> None:
    await operator()
    served = await binding(deletionPolicy="Drain")
    await served.ready()
    run = await launch(command=f"{QUICK} 120")
    await api.wait_for_state(run["id"], "RUNNING")
    await served.delete()
    await waits(served, "Draining")
    await served.patch(deletionPolicy=policy)
    await served.gone(seconds=15 if policy == "Orphan" else 110)
    if policy == "Cancel":
        assert await state_of(api, run) == "CANCELLED"
        return
    [job] = await kube.list("jobs", namespace)
    assert job["status"]["active"] == 1
    assert TTL not in job["spec"], "nothing follows it"


@pytest.mark.extended
async def test_the_deletion_of_its_namespace_does_not_wait_for_the_runs_of_a_binding(
    cluster: Cluster,
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    launch: Launch,
    binding: Bind,
    operator: Operate,
) -> None:
    await operator()
    secret: Object = {"metadata": {"name": "prefect"}, "stringData": {"auth": "user:password"}}
    await kube.create("secrets", namespace, secret)
    reference = {"secretKeyRef": {"name": "prefect", "key": "auth"}}
    served = await binding(deletionPolicy="Drain", server={"url": api.url, "authString": reference})
    await served.ready()
    run = await launch(command=f"{QUICK} 300")
    await api.wait_for_state(run["id"], "RUNNING")
    await kube.delete("namespaces", "", namespace)
    await served.gone(seconds=60)


@pytest.mark.extended
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("policy", "within"), [("Drain", 150), ("Cancel", 400)])
async def test_a_deletion_ends_although_the_server_is_gone_for_good(
    policy: str,
    within: float,
    prefect_proxy: FaultProxy,
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    launch: Launch,
    binding: Bind,
    operator: Operate,
) -> None:
    await operator()
    served = await binding(deletionPolicy=policy, server={"url": prefect_proxy.url})
    await served.ready()
    run = await launch(command=f"{QUICK} {20 if policy == 'Drain' else 600}")
    await api.wait_for_state(run["id"], "RUNNING")
    with prefect_proxy.offline():
        await served.delete()
        await served.condition("Ready", "False", reason="ConnectionFailed")
        await waits(served, "Draining" if policy == "Drain" else "Cancelling")
        await served.gone(seconds=within)
    assert await state_of(api, run) == ("COMPLETED" if policy == "Drain" else "RUNNING")
    events: list[Any] = await kube.list("events", namespace)
    timed_out = [each for each in events if each["reason"] == "DeletionTimedOut"]
    assert bool(timed_out) is (policy == "Cancel")


@pytest.mark.extended
async def test_a_binding_whose_pool_is_deleted_drains_and_does_not_create_it_again(
    api: PrefectApi, pool: str, launch: Launch, binding: Bind, operator: Operate
) -> None:
    await operator()
    created = {"name": pool, "creationPolicy": "IfNotPresent"}
    served = await binding(deletionPolicy="Drain", workPool=created)
    await served.ready()
    run = await launch(command=f"{QUICK} 20")
    await api.wait_for_state(run["id"], "RUNNING")
    await served.delete()
    await waits(served, "Draining")
    await api.delete_pool(pool)
    await served.condition("Ready", "False", reason="WorkPoolNotFound")
    assert "1 running" in await waits(served, "Draining")
    await served.gone(seconds=60)
    assert await state_of(api, run) == "COMPLETED"
    assert (await api.http.get(f"/work_pools/{pool}")).status_code == 404
    await api.create_pool(pool, template=template_with_flows())
