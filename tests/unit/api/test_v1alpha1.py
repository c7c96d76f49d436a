"""The CRD that is generated from the models: structural, described and small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from workpool_operator.api import crd
from workpool_operator.api.v1alpha1 import Spec

MINIMAL = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect:4200/api"}}
#: kubectl can keep an object of this size in an annotation, with room to grow.
CRD_BYTES = 200_000

Schema = dict[str, Any]


def properties(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every field below the schema, with its path."""
    inner = schema.get("items", schema)
    for name, field in inner.get("properties", {}).items():
        where = f"{path}.{name}".removeprefix(".")
        yield where, field
        yield from properties(field, where)


def optional(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield every optional field that has a value of its own, not further fields."""
    for where, field in properties(schema):
        *parents, name = where.split(".")
        if name not in _at(schema, parents).get("required", []) and "properties" not in field:
            yield where, field


def _at(schema: Schema, path: list[str]) -> Schema:
    for name in path:
        schema = schema.get("items", schema)["properties"][name]
    return schema.get("items", schema)


FIELDS = dict(properties(crd.schema()))
SPEC = crd.schema()["properties"]["spec"]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_described_in_a_sentence(field: str) -> None:
    description = FIELDS[field]["description"]
    assert description[0].isupper()
    assert description.endswith(".")


@pytest.mark.parametrize("field", [name for name in FIELDS if "Seconds" in name.split(".")[-1]])
def test_a_duration_names_its_unit(field: str) -> None:
    assert "Seconds" in FIELDS[field]["description"]


@pytest.mark.parametrize("field", [name for name, _ in optional(SPEC) if name != "server.url"])
def test_an_optional_field_names_its_default(field: str) -> None:
    schema = dict(optional(SPEC))[field]
    assert "Default: " in schema["description"]
    if "default" in schema:
        value = str(schema["default"])
        named = schema["description"].rpartition("Default: ")[2].removesuffix(".")
        assert named == (value.lower() if isinstance(schema["default"], bool) else value)


def test_the_schema_is_structural() -> None:
    text = yaml.safe_dump(crd.schema())
    for word in ("$ref", "anyOf", "allOf", "title:", "$defs"):
        assert word not in text
    maps = [name for name, field in FIELDS.items() if "additionalProperties" in field]
    assert maps == ["spec.jobs.labels", "spec.jobs.annotations"]


def test_the_crd_is_small_enough_for_a_client_side_apply() -> None:
    assert len(crd.render()) < CRD_BYTES


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
