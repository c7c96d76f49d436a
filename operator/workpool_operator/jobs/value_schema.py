"""What a pool's JSON schema asks of a value, at a cost that its author does not decide. Pure.

The schema is a user's and the event loop is everybody's: no pattern is evaluated, as one of a few
characters can take hours, nothing is looked up elsewhere, and a schema that goes on and on, through
references or a value of many parts, is given up. What is not evaluated counts as fulfilled.
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

MOST_CHECKS = 1_000  # of one keyword on one value each
SHOWN_CHARACTERS = 120

# What evaluates patterns (the unevaluated ones do so in search of what was evaluated), and what
# compares each item with every other.
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
    """What the schema asks for, where the value is something else; "" where it fits or nobody
    knows. References are followed to the definitions of the schema `root` alone."""
    parts = {key: root[key] for key in ("definitions", "$defs") if root.get(key)}
    try:
        validator = _bounded()(_of_one_draft({**schema, **parts}), registry=Registry())
        error = best_match(validator.iter_errors(value))
    except Exception:  # whatever a schema that is none makes of the validator
        return ""
    if error is None:
        return ""
    text = f"{error.validator} {error.validator_value!r}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def _of_one_draft(schema: Any) -> Any:
    """Without what names another draft, whose own validators would take over there."""
    if isinstance(schema, Mapping):
        return {
            key: _of_one_draft(part)
            for key, part in schema.items()
            if not (key == "$schema" and isinstance(part, str))
        }
    return [_of_one_draft(part) for part in schema] if isinstance(schema, list) else schema


def _bounded() -> Callable[..., Validator]:
    """A class of validators that together make so many checks and no more."""
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
        validator: Validator, asked: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        if next(checks) > MOST_CHECKS:
            raise OverflowError("the schema asks for too much")
        yield from check(validator, asked, value, schema) or ()

    return counted


def _without_patterns(check: Check) -> Check:
    """Which properties are additional depends on the patterns beside."""

    def checked(
        validator: Validator, asked: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        if "patternProperties" not in schema:
            yield from check(validator, asked, value, schema) or ()

    return checked
