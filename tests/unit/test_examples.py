"""The examples fit together, and the demo uses them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from testbed import demo, reference
from testbed.images import RUN
from testbed.state import CHECKOUT
from workpool_operator.api import crd
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.cli import binding_check

EXAMPLES = CHECKOUT / "examples"


def read(file: str) -> Any:
    return yaml.safe_load((EXAMPLES / file).read_text())


@pytest.mark.parametrize("file", sorted(path.name for path in EXAMPLES.glob("binding*.yaml")))
def test_an_example_of_a_binding_sets_only_existing_fields(file: str) -> None:
    spec = read(file)["spec"]
    parsed = Spec.model_validate(spec).model_dump(by_alias=True, exclude_unset=True)
    assert parsed == spec


def fields(schema: Any, path: str) -> Iterator[str]:
    """Yield the path of every field, as the reference has it."""
    path, schema = (f"{path}[]", schema["items"]) if "items" in schema else (path, schema)
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields(field, f"{path}.{name}")


@pytest.mark.parametrize("field", list(fields(crd.schema()["properties"]["spec"], "spec")))
def test_every_field_has_an_example_in_the_reference(field: str) -> None:
    assert reference.example(field) is not None, f"set {field} in examples/every-field.yaml"


def test_the_examples_of_the_fields_are_valid() -> None:
    for binding in reference.examples():
        assert [each for each in binding_check.check(binding) if each.severity == "error"] == []


def test_the_deployment_runs_a_flow_that_the_run_image_has() -> None:
    [deployment] = read("prefect.yaml")["deployments"]
    file, flow = deployment["entrypoint"].split(":")
    assert f"def {flow}(" in (EXAMPLES / file).read_text()
    run = f"prefect deployment run {flow}/{deployment['name']} --watch"
    assert run in demo.SCRIPT.read_text()
    dockerfile = (CHECKOUT / RUN.file).read_text()
    assert "COPY examples/flows /opt/prefect/flows" in dockerfile


def test_the_deployment_uses_the_pool_and_namespace_of_the_binding() -> None:
    [deployment] = read("prefect.yaml")["deployments"]
    binding, script = read("binding.yaml"), demo.SCRIPT.read_text()
    pool = deployment["work_pool"]["name"]
    assert pool == binding["spec"]["workPool"]["name"]
    assert f"prefect work-pool create {pool} " in script
    namespace = deployment["work_pool"]["job_variables"]["namespace"]
    assert namespace == binding["metadata"]["namespace"]
    assert f"kubectl create namespace {namespace} " in script
