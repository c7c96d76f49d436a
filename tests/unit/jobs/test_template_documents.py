"""The documentation of templates matches the code."""

from __future__ import annotations

import json
from typing import Any

from testbed.state import CHECKOUT
from tests.support.templates import at, render
from workpool_operator.jobs.base_job_template import KubernetesJobVariables
from workpool_operator.jobs.template_validation import template_errors, template_warnings
from workpool_operator.jobs.validation import find_errors

EXAMPLE: dict[str, Any] = json.loads((CHECKOUT / "examples/gpu-pool.json").read_text())


def row(name: str, schema: dict[str, Any]) -> str:
    default = f"`{json.dumps(schema['default'])}`" if "default" in schema else ""
    return f"| `{name}` | {default} | {schema['description']} |"


def test_the_documented_variables_are_the_models() -> None:
    properties = KubernetesJobVariables.model_json_schema()["properties"]
    table = "\n".join(row(name, schema) for name, schema in properties.items())
    assert table in (CHECKOUT / "docs/templates.md").read_text(), f"should be:\n{table}"


def test_the_example_pool_is_a_valid_template() -> None:
    assert template_errors(EXAMPLE) == []
    assert list(template_warnings(EXAMPLE)) == []


async def test_the_example_pool_gives_a_job_with_its_users_values() -> None:
    volume = {"name": "scratch", "emptyDir": {}}
    manifest = await render(EXAMPLE, image="models:1", gpus=2, volumes=[volume])
    assert find_errors(manifest) == []
    container = at(manifest, "spec.template.spec.containers.0")
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 2}
    assert [v["name"] for v in at(manifest, "spec.template.spec.volumes")] == [
        "home",
        "data-sets",
        "scratch",
    ]
    assert [m["mountPath"] for m in container["volumeMounts"]] == ["/home/prefect", "/data"]
