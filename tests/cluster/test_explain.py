"""`workpool-operator explain` repeats the scheduler's and the kubelet's words, and shows the way of
a run through real pods."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.command import Command
from tests.support.deployments import QUICK
from tests.support.polling import poll
from workpool_operator.kube.models import RUN_LABEL

NO_PREFECT = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
MISSING_IMAGE = "localhost/no-such-image:1"


@pytest.fixture
def explain(cluster, tmp_path, namespace):
    """`await explain(run)`: the document that the command prints, by the binding of the test."""
    command = Command(tmp_path, {"KUBECONFIG": str(cluster.kubeconfig)})

    async def run(flow_run: Any, *, code: int = 0, **env: str) -> Any:
        words = ["explain", flow_run["id"], "--binding", f"{namespace}/pool", "-o", "json"]
        result = await asyncio.to_thread(replace(command, env={**command.env, **env}).here, *words)
        assert result.code == code, result.everything
        return json.loads(result.out)

    return run


async def test_a_run_is_explained_while_its_image_is_missing_and_after_it_completed(
    api, kube, serve, launch, explain, namespace
):
    await serve()
    stuck = await launch(image=MISSING_IMAGE)
    done = await launch(command=QUICK)
    await api.wait(stuck["id"], until=lambda run: run["state_name"] == "ImagePullBackOff")
    waiting = await explain(stuck)
    assert waiting["answer"]["reason"] == "ImagePullBackOff"
    assert MISSING_IMAGE in waiting["answer"]["message"]
    assert "describe pod" in waiting["answer"]["nextStep"]
    assert {"Pod", "Job", "Prefect"} == {each["source"] for each in waiting["timeline"]}
    await api.wait_for_state(done["id"], "COMPLETED")
    ended = await explain(done)
    assert ended["answer"]["reason"] == "Completed"
    shown = [f"{each['source']} {each['what']}" for each in ended["timeline"]]
    order = ["Prefect Pending", "Job Created", "Pod Created", "Pod Started", "Prefect Running"]
    assert [each for each in shown if each in order] == order, shown
    await _job_ends(kube, namespace, done)
    assert (await explain(done, code=3, **NO_PREFECT))["answer"]["reason"] == "JobEnded"


async def test_a_run_is_explained_from_its_first_container_to_the_pod_that_is_left(
    api, kube, serve, launch, explain, namespace
):
    async def reasons(flow_run: Any, **options: Any) -> list[str]:
        return [each["reason"] for each in (await explain(flow_run, **options))["reasons"]]

    async def pod_runs(flow_run: Any) -> None:
        def found(pods: list[Any]) -> bool:
            return any(_is_of(flow_run, it) and it["status"]["phase"] == "Running" for it in pods)

        await poll(lambda: kube.list("pods", namespace), until=found, seconds=60)

    process = await serve()
    run = await launch(command="sleep 600")
    await pod_runs(run)
    assert await reasons(run) == ["Starting"]
    await api.set_state(run["id"], "RUNNING")
    assert await reasons(run) == ["Running"]
    assert await reasons(run, code=3, **NO_PREFECT) == ["JobActive"]
    failing = await launch(command="sh -c 'sleep 20; exit 3'")
    await pod_runs(failing)
    process.kill()
    path = f"/flow_runs/{run['id']}"
    await api.set_state(run["id"], "SCHEDULED", name="AwaitingRetry", force=True)
    assert await reasons(run) == ["PreviousPod"]
    await api.request("PATCH", path, {"empirical_policy": {"retry_type": "in_process"}})
    assert await reasons(run) == ["RetriesInProcess"]
    await api.set_state(run["id"], "CRASHED", force=True)
    assert await reasons(run) == ["Crashed", "PodLeft"]
    await api.request("DELETE", path)
    assert await reasons(run) == ["RunDeleted"]
    await _job_ends(kube, namespace, failing)
    assert await reasons(failing) == ["PodEnded"]
    assert await reasons(failing, code=3, **NO_PREFECT) == ["JobFailed"]


async def _job_ends(kube: Any, namespace: str, run: Any) -> None:
    def found(jobs: list[Any]) -> bool:
        (job,) = (each for each in jobs if _is_of(run, each))
        return any(
            each["type"] in ("Complete", "Failed") for each in job["status"].get("conditions", ())
        )

    await poll(lambda: kube.list("jobs", namespace), until=found)


def _is_of(run: Any, it: Any) -> bool:
    return bool(it["metadata"]["labels"].get(RUN_LABEL) == run["id"])
