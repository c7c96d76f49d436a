"""Operators share the bindings of a namespace by label: whoever serves, each run has one Job."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.support import selectors
from tests.support.kube import path
from tests.support.polling import poll
from tests.support.promises import MARGIN_SECONDS
from workpool_operator.kube.models import BINDING_LABEL, RUN_LABEL

UNSERVED_SECONDS = 4  # longer than a wake-up by an event


@pytest.fixture
def shard(binding, suspended_pool):
    """`await shard("a")` applies a binding of the pool with the label shard=a."""

    async def apply(name):
        made = await binding(name, workPool={"name": suspended_pool["name"]})
        await made.label(shard=name)
        return made

    return apply


@pytest.fixture
async def make_runs(api, suspended_pool):
    """`await make_runs(3)` creates runs that are due now."""
    pool = suspended_pool["name"]
    deployment = await api.create_deployment(flow="hello", name=pool, pool=pool)

    async def create(count):
        return [await api.create_run(deployment["id"]) for _ in range(count)]

    return create


@pytest.fixture
async def jobs_of(kube, namespace):
    """`await jobs_of(run)` returns the run's Jobs."""

    async def found(run):
        return await kube.list("jobs", namespace, selector=f"{RUN_LABEL}={run['id']}")

    return found


@pytest.fixture
async def one_job(jobs_of):
    """`await one_job(run)` waits for the run's Job and checks that it is the only one."""

    async def found(run):
        [job] = await poll(lambda: jobs_of(run), until=bool, seconds=40)
        return job

    return found


async def test_two_operators_with_disjoint_selectors_serve_each_its_own_bindings(
    kube, namespace, operator, shard, make_runs, one_job, jobs_of
):
    first = await operator(WORKPOOL_OPERATOR_SELECTOR="shard=a")
    second = await operator(WORKPOOL_OPERATOR_SELECTOR="shard in (b, c)")
    a, b = await shard("a"), await shard("b")
    await a.ready()
    await b.ready()
    runs = await make_runs(10)
    for run in runs:
        await one_job(run)
    await asyncio.sleep(1)
    assert [len(await jobs_of(run)) for run in runs] == [1] * len(runs)
    assert not re.search(rf"{namespace}/b(?![\w-])", first.log)
    assert not re.search(rf"{namespace}/a(?![\w-])", second.log)
    for each in (a, b):  # neither takes the finalizer off the other's binding
        assert (await each.read())["metadata"]["finalizers"]
        await each.delete()
        await each.gone()


async def test_a_binding_is_served_exactly_as_long_as_it_has_the_label(
    api, operator, shard, make_runs, one_job
):
    await operator(WORKPOOL_OPERATOR_SELECTOR="shard=a")
    served = await shard("a")
    await served.ready()
    [before] = await make_runs(1)
    await one_job(before)
    await served.label(shard=None)
    await served.condition("Ready", "Unknown", reason="NotSelected")
    [waiting] = await make_runs(1)
    await asyncio.sleep(UNSERVED_SECONDS)
    assert await api.state_names(waiting["id"]) == ["Scheduled"]
    await served.label(shard="a")
    await served.ready()
    job = await one_job(waiting)
    assert job["metadata"]["labels"][BINDING_LABEL]
    await served.label(shard=None)  # and back before the operator has ended what it does
    await served.label(shard="a")
    [last] = await make_runs(1)
    await one_job(last)


async def test_a_binding_moves_with_its_label_to_another_operator_and_no_run_has_two_jobs(
    operator, shard, make_runs, one_job, jobs_of
):
    await operator(WORKPOOL_OPERATOR_SELECTOR="shard=a")
    await operator(WORKPOOL_OPERATOR_SELECTOR="shard=b")
    served = await shard("a")
    await served.ready()
    runs = await make_runs(5)
    await served.label(shard="b")
    runs += await make_runs(5)
    await served.ready()
    for run in runs:
        await one_job(run)
    await asyncio.sleep(1)
    assert [len(await jobs_of(run)) for run in runs] == [1] * len(runs)


async def test_of_two_operators_whose_selectors_overlap_one_serves_and_the_other_names_it(
    namespace, operator, shard, make_runs, one_job, jobs_of
):
    first = await operator(WORKPOOL_OPERATOR_SELECTOR="shard=a")
    served = await shard("a")
    await served.ready()
    holder = (await served.read())["status"]["holderIdentity"]
    second = await operator(WORKPOOL_OPERATOR_SELECTOR="shard in (a, b)")
    lease = f"{namespace}/workpoolbinding-a"
    await second.says(f"{namespace}/a: waits for its Lease {lease}, which {holder} holds")
    runs = await make_runs(10)
    for run in runs:
        await one_job(run)
    assert (await served.read())["status"]["holderIdentity"] == holder
    await first.terminate()
    await served.wait(
        lambda status: status.get("holderIdentity") not in (None, holder),
        seconds=2 + MARGIN_SECONDS,
    )
    runs += await make_runs(2)
    for run in runs:
        await one_job(run)
    assert [len(await jobs_of(run)) for run in runs] == [1] * len(runs)
    assert "Traceback" not in first.log + second.log


@pytest.mark.parametrize("valid", [True, False], ids=["valid", "invalid"])
async def test_the_api_server_judges_a_selector_as_the_settings_do(kube, crd, namespace, valid):
    for selector in selectors.VALID if valid else selectors.INVALID:
        response = await kube.http.get(
            path("workpoolbindings", namespace), params={"labelSelector": selector}
        )
        assert (response.status_code == httpx.codes.OK) is valid, (selector, response.text)
