"""What a job variable should be according to the pool's schema, which users write."""

from __future__ import annotations

from typing import Any

import pytest

from workpool_operator.jobs import value_schema
from workpool_operator.jobs.value_schema import MOST_CHECKS, expected_value

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
NEVER = {"pattern": "^never$"}


@pytest.mark.parametrize(
    ("value", "schema", "text"),
    [
        (1, {"type": "string"}, "type 'string'"),
        ("a", {"enum": ["b", "c"]}, "enum ['b', 'c']"),
        (9, {"maximum": 8}, "maximum 8"),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, "type 'string'"),
        ({"a": 1}, {"additionalProperties": False}, "additionalProperties False"),
        (1, {"$ref": "#/$defs/text"}, "type 'string'"),
        (["a", 1], {"items": {"anyOf": [{"type": "string"}]}}, "type 'string'"),
        ("a", {"type": "string"}, ""),
        (None, {"anyOf": [{"type": "string"}, {"type": "null"}]}, ""),
    ],
)
def test_the_failed_requirement_of_the_schema_is_returned(
    value: Any, schema: Schema, text: str
) -> None:
    assert expected_value(value, schema, root={"$defs": {"text": {"type": "string"}}}) == text


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("a", NEVER),
        ("a", {"type": "string", "format": "ipv4", **NEVER}),
        ("a", {"anyOf": [NEVER]}),
        ("a", {"not": {"not": NEVER}}),
        ("a", {"$ref": "#/$defs/never"}),
        ("a", {"allOf": [{"$schema": DRAFT, **NEVER}]}),
        ({"a": "a"}, {"properties": {"a": NEVER}}),
        ({"a": "a"}, {"properties": {"a": {"$schema": DRAFT, **NEVER}}}),
        ({"a": "a"}, {"additionalProperties": NEVER}),
        ({"a": "a"}, {"propertyNames": NEVER}),
        ({"a": "a"}, {"patternProperties": {"a": {"type": "integer"}}}),
        ({"a": "a"}, {"patternProperties": {"a": {}}, "additionalProperties": False}),
        ({"a": "a"}, {"patternProperties": {"b": {}}, "unevaluatedProperties": False}),
        (["a"], {"items": NEVER}),
        (["a"], {"prefixItems": [NEVER]}),
        (["a"], {"contains": {"not": {"not": NEVER}}}),
    ],
)
def test_no_pattern_is_evaluated_anywhere_in_a_schema(value: Any, schema: Schema) -> None:
    assert expected_value(value, schema, root={"$defs": {"never": NEVER}}) == ""


@pytest.mark.timeout(20)  # were it evaluated, it would take hours
def test_a_pattern_that_takes_hours_takes_no_time() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert expected_value("a" * 60 + "!", schema, root={}) == ""
    assert expected_value(1, schema, root={}) == "type 'string'"


@pytest.mark.timeout(20)
def test_the_check_of_an_endless_schema_stops() -> None:
    doubled = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, 60)}
    definitions = {**doubled, "a0": {"type": "string"}}
    assert expected_value(1, {"$ref": "#/$defs/a59"}, root={"$defs": definitions}) == ""
    assert expected_value(1, {"$ref": "#/$defs/a2"}, root={"$defs": definitions}) == "type 'string'"
    assert (
        expected_value(1, {"$ref": "#/$defs/self"}, root={"$defs": {"self": {"$ref": "#"}}}) == ""
    )


def test_the_check_of_a_value_with_many_parts_stops() -> None:
    assert expected_value(["a"] * (2 * MOST_CHECKS), {"items": {"type": "integer"}}, root={}) == ""


@pytest.mark.parametrize("schema", [{"type": "no type"}, {"items": 5}, {"$ref": "http://a/b"}])
def test_an_invalid_schema_requires_nothing(schema: Schema) -> None:
    assert expected_value("a", schema, root={}) == ""


def test_a_long_requirement_is_cut() -> None:
    assert len(expected_value("a", {"enum": ["b" * 500]}, root={})) == value_schema.SHOWN_CHARACTERS
