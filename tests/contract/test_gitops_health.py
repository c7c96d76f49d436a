"""Flux and Argo CD make of a binding's status what docs/gitops.md says: by kstatus itself, and by
the page's health check in Argo CD's Lua interpreter."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime

import pytest
import yaml

from testbed import builds
from testbed.state import CHECKOUT
from workpool_operator.binding import conditions
from workpool_operator.binding.conditions import ConditionState, ServingState
from workpool_operator.binding.status import StatusInput, build_status
from workpool_operator.runs.capacity import Shortage

PAGE = (CHECKOUT / "docs" / "gitops.md").read_text()
KEY = "resource.customizations.health.workpool-operator.dev_WorkPoolBinding"


@pytest.fixture
def health(tmp_path):
    """`health(bindings)` returns what Flux and Argo CD show for each."""
    (manifest,) = re.findall(
        r"^```yaml\n(apiVersion: v1\nkind: ConfigMap.*?)^```", PAGE, re.M | re.S
    )
    check = tmp_path / "check.lua"
    check.write_text(yaml.safe_load(manifest)["data"][KEY])

    def compute(bindings):
        done = subprocess.run(
            [builds.tool("gitops-health"), check],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": bindings}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [(each["flux"], each["argoCD"], each["message"]) for each in json.loads(done.stdout)]

    return compute


async def test_each_state_of_a_binding_has_the_health_that_the_page_says(binding, operator, health):
    served = await binding()
    broken = await binding("broken", server={"url": "http://127.0.0.1:1/api"})
    seen = [await served.read()]
    process = await operator()
    await served.ready()
    seen.append(await served.read())
    await served.patch(suspend=True)
    await served.condition("Ready", "True", reason="Suspended")
    seen.append(await served.read())
    await broken.condition("Ready", "False", reason="ConnectionFailed")
    seen.append(await broken.read())
    await process.terminate()
    await served.condition("Ready", "Unknown", reason="OperatorStopped")
    seen.append(await served.read())
    seen.append(await served.patch(suspend=False))
    await served.delete()
    seen.append(await served.read())
    found = health(seen)
    assert [(flux, argo_cd) for flux, argo_cd, _ in found] == [
        ("InProgress", "Progressing"),
        ("Current", "Healthy"),
        ("Current", "Suspended"),
        ("InProgress", "Degraded"),
        ("InProgress", "Progressing"),
        ("InProgress", "Progressing"),
        ("Terminating", "Progressing"),
    ]
    assert found[0][2] == "No operator has reported on this binding"
    assert "spec.server.url" in found[3][2], "Argo CD shows the field to correct"


WAITS = {
    "PoolPaused": ServingState(synced=True, pool_paused=True),
    **{
        reason: ServingState(synced=True, shortage=Shortage(reason, "Due runs wait."))
        for reason in ("AtCapacity", "QuotaExceeded", "TooManyRequests")
    },
    "PollOverdue": ServingState(synced=True, overdue_since=datetime(2026, 1, 1, tzinfo=UTC)),
    "Starting": ServingState(),
}


def test_a_wait_has_the_health_that_the_page_says(health):
    found = health([binding_that(serving) for serving in WAITS.values()])
    shown = {reason: each[:2] for reason, each in zip(WAITS, found, strict=True)}
    assert shown == {
        "PoolPaused": ("Current", "Suspended"),
        "AtCapacity": ("Current", "Healthy"),
        "QuotaExceeded": ("Current", "Healthy"),
        "TooManyRequests": ("Current", "Healthy"),
        "PollOverdue": ("InProgress", "Progressing"),
        "Starting": ("InProgress", "Progressing"),
    }
    assert found[1][2] == "Due runs wait."


def binding_that(serving):
    """A binding with the status that the operator builds."""
    inputs = StatusInput(
        generation=1,
        worker_name="etl.data@1234",
        pool_name="etl",
        server_url="http://prefect/api",
        states={name: ConditionState("True", "Fine") for name in conditions.ORDER},
        serving=serving,
    )
    return {
        "apiVersion": "workpool-operator.dev/v1alpha1",
        "kind": "WorkPoolBinding",
        "metadata": {"name": "etl", "namespace": "data", "generation": 1},
        "status": build_status(inputs, before={}, now=datetime(2026, 1, 1, tzinfo=UTC)),
    }
