"""While the API server refuses Jobs for now, runs stay Scheduled; afterwards they start at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from tests.support.polling import poll
from tests.support.promises import FILLED_SECONDS

JOBS = r"/jobs$"


@pytest.fixture
async def launch(api, suspended_pool):
    """`await launch(5)` creates so many runs of one deployment, due now."""
    name = suspended_pool["name"]
    deployment = await api.create_deployment(flow="hello", name=name, pool=name)

    async def create(count):
        return [await api.create_run(deployment["id"]) for _ in range(count)]

    return create


@pytest.fixture
def states(api):
    """`await states(runs)` returns how many runs are in which type and name of state."""

    async def read(runs):
        chosen = {"flow_runs": {"id": {"any_": [run["id"] for run in runs]}}}
        found = await api.many("POST", "/flow_runs/filter", chosen)
        return Counter((run["state_type"], run["state_name"]) for run in found)

    return read


async def set_quota(kube, namespace, count):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": namespace},
        "spec": {"hard": {"count/jobs.batch": str(count)}},
    }
    await kube.apply("resourcequotas", namespace, quota)
    await kube.wait(
        "resourcequotas",
        namespace,
        "few",
        until=lambda q: q.get("status", {}).get("hard") == {"count/jobs.batch": str(count)},
    )


async def jobs_until(kube, namespace, count):
    return await poll(
        lambda: kube.list("jobs", namespace), until=lambda found: len(found) == count, seconds=60
    )


async def test_while_a_quota_is_exhausted_one_run_probes_it_and_the_others_stay_scheduled(
    kube, namespace, binding, operator, suspended_pool, launch, states
):
    await set_quota(kube, namespace, 2)
    await operator()
    served = await binding(workPool={"name": suspended_pool["name"]})
    await served.ready()
    runs = await launch(8)
    claiming = await served.condition("Claiming", "False", reason="QuotaExceeded")
    await served.condition("Ready", "True", reason="QuotaExceeded")
    assert "ResourceQuota few is exhausted (requested: count/jobs.batch=1" in claiming["message"]

    async def by_state():
        found = await states(runs)
        scheduled = sum(count for (type_, _), count in found.items() if type_ == "SCHEDULED")
        return found[("PENDING", "JobSuspended")], found[("PENDING", "QuotaExceeded")], scheduled

    await poll(by_state, until=lambda counts: counts == (2, 1, 5))
    await asyncio.sleep(4)  # longer than two attempts
    assert await by_state() == (2, 1, 5)
    await set_quota(kube, namespace, 4)
    began = time.monotonic()
    await jobs_until(kube, namespace, 4)
    assert time.monotonic() - began < FILLED_SECONDS
    await kube.delete("resourcequotas", namespace, "few")
    await jobs_until(kube, namespace, 8)
    await served.condition("Claiming", "True", reason="Polling", seconds=20)
    assert len({job["metadata"]["name"] for job in await kube.list("jobs", namespace)}) == 8


async def test_a_quota_of_zero_keeps_all_runs_but_one_scheduled(
    kube, namespace, binding, operator, suspended_pool, launch, states
):
    await set_quota(kube, namespace, 0)
    await operator()
    served = await binding(workPool={"name": suspended_pool["name"]})
    runs = await launch(5)
    await served.condition("Claiming", "False", reason="QuotaExceeded")

    async def scheduled():
        found = await states(runs)
        return sum(count for (type_, _), count in found.items() if type_ == "SCHEDULED")

    await poll(scheduled, until=lambda count: count == 4)
    assert (await states(runs))[("PENDING", "QuotaExceeded")] == 1
    assert await kube.list("jobs", namespace) == []


async def test_retry_after_of_the_api_server_delays_the_jobs_of_all_runs(
    api, kube, namespace, binding, operator, suspended_pool, launch, states, kube_proxy, tmp_path
):
    too_many = {"kind": "Status", "code": 429, "message": "too many requests"}
    creation = kube_proxy.on("POST", JOBS, query="^$")  # not the dry run of the template
    refusal = creation.once().answer(429, json=too_many, headers={"Retry-After": "10"})
    await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    served = await binding(workPool={"name": suspended_pool["name"]})
    await served.ready()
    first = await launch(1)
    refused = await refusal.wait()
    others = await launch(4)
    claiming = await served.condition("Claiming", "False", reason="TooManyRequests")
    assert "Retry-After: 10 s" in claiming["message"]
    await poll(lambda: states(first), until=lambda it: it[("PENDING", "KubernetesUnavailable")])
    message = (await api.states(first[0]["id"]))[-1]["message"]
    assert message.endswith("too many requests. The operator tries again in 10 s, as it asked.")
    assert await states(others) == {("SCHEDULED", "Scheduled"): 4}
    await jobs_until(kube, namespace, 5)
    await poll(lambda: states(first), until=lambda it: it[("PENDING", "JobSuspended")] == 1)
    creations = [call for call in kube_proxy.calls(JOBS, method="POST") if not call.query]
    assert creations[0].began == refused.began
    assert len(creations) == 6
    assert creations[1].began - refused.began >= 10
    assert creations[-1].began - refused.began < 10 + FILLED_SECONDS
