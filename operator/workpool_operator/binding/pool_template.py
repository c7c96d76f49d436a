"""Reads the base job template that a binding wants its pool to have. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from workpool_operator.jobs import documents
from workpool_operator.jobs.documents import UnreadableFile
from workpool_operator.jobs.template_validation import refused_by_prefect, template_errors

_MOST_ERRORS = 3  # conditions are read in a terminal
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Template:
    """A base job template, as Prefect stores it. `source` says where it comes from; `errors` say
    why no pool may have it."""

    document: Mapping[str, Any]
    source: str
    errors: Sequence[str] = field(default=())

    @cached_property
    def digest(self) -> str:
        """The digest of its content, whatever the order of keys is."""
        text = json.dumps(self.document, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def parse(text: str, *, source: str) -> Template:
    """Return the template in the text.

    Raises:
        ValueError: the text is no template; it continues "the key ...".
    """
    try:
        found = documents.parse(text, source)
    except UnreadableFile as error:
        line, column = error.position.line, error.position.column
        raise ValueError(f"{error.problem} (line {line}, column {column})") from error
    if len(found) != 1 or not isinstance(found[0].value, dict):
        raise ValueError("is not one mapping with job_configuration and variables")
    document = _as_stored(found[0].value)
    errors = template_errors(document) or refused_by_prefect(document)
    more = [f"and {len(errors) - _MOST_ERRORS} more"] if len(errors) > _MOST_ERRORS else []
    return Template(document, source, [*map(str, errors[:_MOST_ERRORS]), *more])


def _as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value as JSON has it: YAML also has other keys than strings, and NaN."""
    try:
        stored: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be stored as JSON: {error}") from error
    return stored
