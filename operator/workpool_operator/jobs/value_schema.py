"""Checks a value against the JSON schema of a pool's variable, at a bounded cost. Pure.

Users write the schema, and the process that evaluates it serves all bindings. So no pattern is
evaluated (a short one can take hours), no remote reference is resolved, and the check stops after
`MOST_CHECKS` steps. Whatever is not evaluated counts as valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import create
from referencing import Registry

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MOST_CHECKS = 1_000  # each of one keyword on one value
SHOWN_CHARACTERS = 120

# Keywords that evaluate patterns (the `unevaluated` ones do, too), and the one that compares each
# item with every other.
_LEFT_OUT = frozenset(
    {
        "format",
        "pattern",
        "patternProperties",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    }
)
Check = Callable[[Any, Any, Any, Mapping[str, Any]], Iterator[ValidationError]]


def expected_value(value: Any, schema: Mapping[str, Any], *, root: Any) -> str:
    """Return what the schema requires, such as `type 'integer'`; "" if the value is valid or that
    cannot be decided. References are resolved only within the schema `root`."""
    parts = {key: root[key] for key in ("definitions", "$defs") if root.get(key)}
    try:
        validator = _bounded()(_of_one_draft({**schema, **parts}), registry=Registry())
        error = best_match(validator.iter_errors(value))
    except Exception:  # an invalid schema can raise anything
        return ""
    if error is None:
        return ""
    text = f"{error.validator} {error.validator_value!r}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def _of_one_draft(schema: Any) -> Any:
    """Remove `$schema`: with another draft, jsonschema would use that draft's own validators."""
    if isinstance(schema, Mapping):
        return {
            key: _of_one_draft(part)
            for key, part in schema.items()
            if not (key == "$schema" and isinstance(part, str))
        }
    return [_of_one_draft(part) for part in schema] if isinstance(schema, list) else schema


def _bounded() -> Callable[..., Validator]:
    """Return a class of validators that together make at most `MOST_CHECKS` checks."""
    checks = count(1)
    keywords = {
        keyword: _counted(check, checks)
        for keyword, check in Draft202012Validator.VALIDATORS.items()
        if keyword not in _LEFT_OUT
    }
    keywords["additionalProperties"] = _without_patterns(keywords["additionalProperties"])
    made: Callable[..., Validator] = create(
        Draft202012Validator.META_SCHEMA,
        validators=keywords,
        type_checker=Draft202012Validator.TYPE_CHECKER,
    )
    return made


def _counted(check: Check, checks: Iterator[int]) -> Check:
    def counted(
        validator: Validator, requirement: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        if next(checks) > MOST_CHECKS:
            raise OverflowError("the schema needs too many checks")
        yield from check(validator, requirement, value, schema) or ()

    return counted


def _without_patterns(check: Check) -> Check:
    """Skip the check if the schema has patterns: they decide which properties are additional."""

    def checked(
        validator: Validator, requirement: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        if "patternProperties" not in schema:
            yield from check(validator, requirement, value, schema) or ()

    return checked
