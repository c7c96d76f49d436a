"""What a Job is rendered from, on real servers (docs/races.md, 13, 17, 18)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.contract.conftest import make_run
from tests.support.kube import Kube
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi
from tests.support.stepwise_controller import StepwiseController
from workpool_operator.kube import models

Start = Callable[..., Awaitable[StepwiseController]]


async def has_job(here: StepwiseController, run: Object) -> str:
    """Claim the run, create its Job, and return the Job's name."""
    await here.claimed(run)
    await here.settle(run)
    return here.snapshot(run).current_name


async def the_job(kube: Kube, namespace: str, name: str) -> Object:
    found = await kube.get("jobs", namespace, name)
    assert found is not None
    return found


async def test_race_13_a_long_name_keeps_its_hash_on_the_job_and_on_the_pod(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_pool: Object
) -> None:
    """The operator relies on it: 64 characters are refused, and a pod's name keeps 57."""
    run = await make_run(api, suspended_pool, name="a-very-long-name-" * 20)
    here = await start()
    name = await has_job(here, run)
    assert len(name) == 57
    pod_spec = (await the_job(kube, namespace, name))["spec"]["template"]["spec"]
    copy = {"metadata": {"name": "x" * 64}, "spec": {"template": {"spec": pod_spec}}}
    with pytest.raises(httpx.HTTPStatusError, match="63"):
        await kube.create("jobs", namespace, copy)
    await kube.patch("jobs", namespace, name, {"spec": {"suspend": False}})
    (pod,) = await poll(lambda: kube.list("pods", namespace), until=bool)
    assert pod["metadata"]["name"].startswith(f"{name}-")
    assert pod["metadata"]["labels"][models.RUN_LABEL] == run["id"]


async def test_race_17_no_job_or_pod_has_the_label_that_the_stock_workers_observer_acts_on(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    here = await start()
    name = await has_job(here, suspended_run)
    await kube.patch("jobs", namespace, name, {"spec": {"suspend": False}})
    await poll(lambda: kube.list("pods", namespace), until=bool)
    for plural in ("jobs", "pods"):
        assert await kube.list(plural, namespace, selector="prefect.io/flow-run-id") == []
        (each,) = await kube.list(
            plural, namespace, selector=f"{models.RUN_LABEL}={suspended_run['id']}"
        )
        assert each["metadata"]["annotations"]["prefect.io/flow-run-id"] == suspended_run["id"]


async def test_race_18_runs_of_one_deployment_do_not_get_each_others_environment(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_pool: Object
) -> None:
    deployment = await api.create_deployment(
        flow="hello",
        name=suspended_pool["name"],
        pool=suspended_pool["name"],
        job_variables={"env": {"SHARED": "1"}},
    )
    here = await start()
    found: list[dict[str, Any]] = []
    for variables in ({"env": {"SECRET": "of the first"}}, {}):
        run = await api.create_run(deployment["id"], job_variables=variables)
        job = await the_job(kube, namespace, await has_job(here, run))
        container = job["spec"]["template"]["spec"]["containers"][0]
        found.append({entry["name"]: entry.get("value") for entry in container["env"]})
    assert found[0]["SECRET"] == "of the first"
    assert "SECRET" not in found[1]
    assert found[0]["SHARED"] == found[1]["SHARED"] == "1"
