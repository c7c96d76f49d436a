"""The examples hold together, and the demo changes nothing of them but addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.demo import objects
from testbed.demo.prefect_cli import DEPLOYMENT
from testbed.demo.server import IN_CLUSTER, Addresses
from testbed.state import CHECKOUT
from workpool_operator.api.v1alpha1 import Spec

EXAMPLES = CHECKOUT / "examples"


def read(file: str) -> Any:
    return yaml.safe_load((EXAMPLES / file).read_text())


class NoCluster:
    """Stands where kubectl would; the file that is applied is all that matters here."""

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        return ""


@pytest.fixture
def applied(tmp_path: Path) -> Any:
    addresses = Addresses(host="http://10.0.0.2:30000/api", pods=IN_CLUSTER)
    file = objects.apply(NoCluster(), api=addresses, folder=tmp_path)  # type: ignore[arg-type]
    return yaml.safe_load(file.read_text())


def test_the_demo_applies_the_example_binding_but_for_the_addresses_of_the_server(
    applied: Any,
) -> None:
    assert applied["spec"].pop("server") == {"url": "http://10.0.0.2:30000/api"}
    assert applied["spec"].pop("jobs") == {"serverURL": IN_CLUSTER}
    example = read("binding.yaml")
    assert example["spec"].pop("server") == {"url": IN_CLUSTER}
    assert applied == example


@pytest.mark.parametrize("file", sorted(path.name for path in EXAMPLES.glob("binding*.yaml")))
def test_an_example_of_a_binding_sets_only_fields_that_there_are(file: str) -> None:
    spec = read(file)["spec"]
    parsed = Spec.model_validate(spec).model_dump(by_alias=True, exclude_unset=True)
    assert parsed == spec


def test_the_deployment_runs_a_flow_that_the_run_image_has() -> None:
    [deployment] = read("prefect.yaml")["deployments"]
    file, flow = deployment["entrypoint"].split(":")
    assert f"def {flow}(" in (EXAMPLES / file).read_text()
    assert f"{flow}/{deployment['name']}" == DEPLOYMENT
    assert "COPY examples/flows /opt/prefect/flows" in (CHECKOUT / "Dockerfile").read_text()


def test_the_deployment_goes_to_the_pool_and_namespace_that_the_binding_serves() -> None:
    [deployment] = read("prefect.yaml")["deployments"]
    binding = read("binding.yaml")
    assert deployment["work_pool"]["name"] == binding["spec"]["workPool"]["name"] == objects.POOL
    namespace = deployment["work_pool"]["job_variables"]["namespace"]
    assert namespace == binding["metadata"]["namespace"] == objects.NAMESPACE
