"""A binding reports each fault in the promised time, with the fix, and recovers from it.

docs/status.md promises 5 s where a watch or a request reveals a fault, 15 s for Secrets, rights and
pools, 30 s for templates; the same back. Each has a margin here for a machine that tests load.
"""

from __future__ import annotations

from tests.support.fault_proxy import Answer
from tests.support.promises import AT_ONCE, IN_HALF_A_MINUTE, SOON

ORDER = [
    "ServerResolved",
    "CredentialsValid",
    "ServerReachable",
    "WorkPoolFound",
    "TemplateValid",
    "JobsPermitted",
]


async def assert_ready_is_the_summary(served, failed: str) -> None:
    """Check that Ready has the failed condition's reason and that later conditions are Unknown."""
    status = (await served.read())["status"]
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    ready, cause = conditions.pop("Ready"), conditions[failed]
    assert (ready["status"], ready["reason"]) == ("False", cause["reason"])
    assert ready["message"] == cause["message"]
    later = ORDER[ORDER.index(failed) + 1 :]
    assert {conditions[name]["status"] for name in later} <= {"Unknown"}


async def test_an_outage_of_the_server_is_reported_and_so_is_its_end(
    binding, operator, prefect_proxy
):
    process = await operator()
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    with prefect_proxy.offline():
        fault = await served.condition(
            "ServerReachable", "False", reason="ConnectionFailed", seconds=AT_ONCE
        )
        await assert_ready_is_the_summary(served, "ServerReachable")
        assert prefect_proxy.url in fault["message"]
        assert "spec.server.url" in fault["message"]
        assert await process.probe("healthz") == 200
    await served.ready(seconds=AT_ONCE)


async def test_an_address_where_nothing_listens_does_not_end_the_operator(binding, operator):
    process = await operator()
    served = await binding(server={"url": "http://127.0.0.1:1/api"})
    fault = await served.condition("ServerReachable", "False", seconds=AT_ONCE)
    assert "http://127.0.0.1:1/api" in fault["message"]
    conditions = (await served.read())["status"]["conditions"]
    known = {condition["type"]: condition["status"] for condition in conditions}
    assert known["ServerResolved"] == "True"
    assert known["CredentialsValid"] == "Unknown", "no request was answered"
    assert await process.probe("healthz") == 200
    assert await process.probe("readyz") == 200


async def html(rule, call) -> Answer:
    return Answer(200, b"<html></html>", {"Content-Type": "text/html"})


async def test_a_server_that_is_not_prefect_is_reported(binding, operator, prefect_proxy):
    prefect_proxy.on("GET", "/work_pools/").do(html)
    await operator()
    served = await binding(server={"url": prefect_proxy.url})
    fault = await served.condition("ServerReachable", "False", seconds=AT_ONCE)
    assert "is not the answer of a Prefect API" in fault["message"]


async def test_refusals_and_rate_limits_are_reported_with_their_own_reasons(
    binding, operator, prefect_proxy
):
    await operator()
    served = await binding(server={"url": prefect_proxy.url})
    await served.ready()
    for status, reason in {401: "Unauthorized", 403: "Forbidden"}.items():
        prefect_proxy.on("*", "/api/").answer(status, json={"detail": "no"})
        fault = await served.condition("CredentialsValid", "False", reason=reason, seconds=SOON)
        await assert_ready_is_the_summary(served, "CredentialsValid")
        assert f"answered {status}" in fault["message"]
        assert "spec.server.apiKey" in fault["message"]
        prefect_proxy.forget()
        await served.ready(seconds=AT_ONCE)
    prefect_proxy.on("*", "/work_pools/").answer(429, headers={"Retry-After": "2"})
    fault = await served.condition("ServerReachable", "False", reason="RateLimited", seconds=SOON)
    assert "retries in 2 s" in fault["message"]
    prefect_proxy.forget()
    await served.ready(seconds=AT_ONCE)


async def test_a_missing_pool_is_served_as_soon_as_it_exists(api, binding, operator, pool):
    await api.delete_pool(pool)
    await operator()
    served = await binding()
    fault = await served.condition(
        "WorkPoolFound", "False", reason="WorkPoolNotFound", seconds=AT_ONCE
    )
    await assert_ready_is_the_summary(served, "WorkPoolFound")
    assert f"prefect work-pool create '{pool}' --type kubernetes" in fault["message"]
    await api.create_pool(pool)
    await served.ready(seconds=SOON)


async def test_a_pool_that_is_created_again_is_served_again(api, binding, operator, pool):
    await operator()
    served = await binding()
    await served.ready()
    await api.delete_pool(pool)
    await served.condition("WorkPoolFound", "False", seconds=SOON)
    made = await api.create_pool(pool)
    await served.ready(seconds=SOON)
    assert (await served.read())["status"]["workPool"]["id"] == made["id"]


async def test_a_pool_of_another_type_is_not_served(api, binding, operator, pool):
    await operator()
    types = ["process", "ecs:push", "prefect:managed", "kubernetes-operator"]
    names = [f"{pool}-{number}" for number, _ in enumerate(types)]
    for name, type in zip(names, types, strict=True):
        await api.one("POST", "/work_pools/", {"name": name, "type": type})
    served = [await binding(name, workPool={"name": name}) for name in names]
    for each, type in zip(served, types, strict=True):
        fault = await each.condition(
            "WorkPoolFound", "False", reason="WorkPoolTypeUnsupported", seconds=AT_ONCE
        )
        assert repr(type) in fault["message"]
    for name, each in zip(names, served, strict=True):
        await api.delete_pool(name)
        await api.create_pool(name)
        await each.ready(seconds=SOON)
        await api.delete_pool(name)


async def test_an_invalid_template_stops_claims_until_it_is_corrected(api, binding, operator, pool):
    await operator()
    served = await binding()
    await served.ready()
    template = (await api.read_pool(pool))["base_job_template"]
    broken = {**template, "job_configuration": {"command": "{{ command }}"}}
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": broken})
    fault = await served.condition("TemplateValid", "False", seconds=IN_HALF_A_MINUTE)
    await assert_ready_is_the_summary(served, "TemplateValid")
    assert pool in fault["message"]
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    await served.ready(seconds=IN_HALF_A_MINUTE)


async def test_a_paused_pool_is_not_a_fault(api, binding, operator, pool):
    await operator()
    served = await binding()
    await served.ready()
    await api.request("PATCH", f"/work_pools/{pool}", {"is_paused": True})
    await served.condition("Ready", "True", reason="PoolPaused", seconds=SOON)
    assert (await served.read())["status"]["workPool"]["paused"] is True
    await api.request("PATCH", f"/work_pools/{pool}", {"is_paused": False})
    await served.condition("Ready", "True", reason="Polling", seconds=SOON)


async def test_a_suspended_binding_claims_no_runs(api, kube, namespace, deploy, binding, operator):
    await operator()
    served = await binding(suspend=True)
    await served.condition("Ready", "True", reason="Suspended")
    run = await api.create_run((await deploy("hello"))["id"])
    await served.wait(lambda status: status["runs"]["queued"] == 1, seconds=SOON)
    assert (await api.read_run(run["id"]))["state_type"] == "SCHEDULED"
    assert await kube.list("jobs", namespace) == []
    await served.patch(suspend=False)
    await served.condition("Ready", "True", reason="Polling", seconds=AT_ONCE)
    await api.wait_for_state(run["id"], "PENDING", "RUNNING", "COMPLETED")


async def test_a_binding_at_capacity_is_not_a_fault_and_counts_queued_runs(
    api, deploy, binding, operator
):
    await operator()
    served = await binding(concurrencyLimit=1)
    await served.ready()
    deployment = await deploy("sleep", command="sleep 15")
    first = await api.create_run(deployment["id"])
    await served.condition("Ready", "True", reason="AtCapacity", seconds=SOON)
    await api.create_run(deployment["id"])
    await served.wait(
        lambda status: status["runs"] == {"running": 1, "pending": 0, "queued": 1}, seconds=60
    )
    await api.cancel(first["id"])
