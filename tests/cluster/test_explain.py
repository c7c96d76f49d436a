"""`workpool-operator explain` repeats the scheduler's and the kubelet's words, and shows the way of
a run through real pods."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.command import Command
from tests.support.deployments import QUICK

MISSING_IMAGE = "localhost/no-such-image:1"


@pytest.fixture
def explain(cluster, tmp_path, namespace):
    """`await explain(run)`: the document that the command prints, by the binding of the test."""
    command = Command(tmp_path, {"KUBECONFIG": str(cluster.kubeconfig)})

    async def run(flow_run: Any) -> Any:
        words = ["explain", flow_run["id"], "--binding", f"{namespace}/pool", "-o", "json"]
        result = await asyncio.to_thread(command.here, *words)
        assert result.code == 0, result.everything
        return json.loads(result.out)

    return run


async def test_a_run_is_explained_while_its_image_is_missing_and_after_it_completed(
    api, serve, launch, explain
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
