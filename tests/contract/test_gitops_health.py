"""Flux and Argo CD make of a binding's status what docs/gitops.md says: by kstatus itself, and by
the page's health check in Argo CD's Lua interpreter."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from testbed import builds
from testbed.state import CHECKOUT

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
