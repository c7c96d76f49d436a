"""The generated CRD: structural, described, small, and the same as the committed one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from workpool_operator.api import crd
from workpool_operator.api.v1alpha1 import Spec

CHECKOUT = Path(__file__).parents[3]
MINIMAL = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect:4200/api"}}


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
        yield from fields(field.get("items", {}), f"{path}.{name}[]")


def test_every_field_is_described() -> None:
    undescribed = [path for path, field in fields(crd.schema()) if not field.get("description")]
    assert undescribed == []


def test_every_duration_names_its_unit_and_every_default_is_described() -> None:
    for path, field in fields(crd.schema()):
        if path.startswith(".spec") and "default" in field and field["type"] != "object":
            default = f"Default: {str(field['default']).lower()}"
            assert default in field["description"], path
        if field.get("type") == "integer" and "Seconds" in path:
            assert "Seconds" in field["description"], path


def test_the_schema_is_structural() -> None:
    text = yaml.safe_dump(crd.schema())
    for word in ("$ref", "anyOf", "allOf", "title:", "$defs", "additionalProperties"):
        assert word not in text


def test_the_crd_is_small_enough_for_a_client_side_apply() -> None:
    assert len(crd.render()) < 200_000


def test_the_committed_crd_is_the_generated_one() -> None:
    assert (CHECKOUT / "manifests/base/crd.yaml").read_text() == crd.render()


def test_a_minimal_spec_has_the_defaults_of_the_schema() -> None:
    spec = Spec.model_validate(MINIMAL)
    assert spec.poll.interval_seconds == 10
    assert spec.jobs.pending_timeout_seconds == 600
    assert spec.jobs.ttl_seconds_after_finished == 3600
    assert spec.work_pool.type == "kubernetes"
    assert spec.suspend is False
    assert (spec.work_queues, spec.concurrency_limit, spec.jobs.server_url) == (None, None, None)


def test_a_spec_is_parsed_by_its_kubernetes_names_and_ignores_unknown_fields() -> None:
    jobs = {"serverURL": "http://elsewhere/api", "fromTheFuture": 1}
    spec = Spec.model_validate({**MINIMAL, "jobs": jobs})
    assert spec.jobs.server_url == "http://elsewhere/api"
    assert "serverURL" in crd.schema()["properties"]["spec"]["properties"]["jobs"]["properties"]


def test_kubectl_get_shows_the_most_important_columns() -> None:
    [version] = crd.manifest()["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if not column.get("priority")]
    assert narrow == ["Pool", "Ready", "Status", "Running", "Queued", "Last Poll", "Age"]
