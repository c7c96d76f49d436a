"""Decides which placeholders Prefect's own functions expand.

A value of a deployment or run is data, even if it looks like a placeholder. A template reads only
the environment variables that the settings allow. References to Prefect's blocks and variables are
expanded in values, too, because that is how credentials reach a run.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any

from prefect.utilities.templating import (
    BLOCK_DOCUMENT_PLACEHOLDER_PREFIX,
    ENV_VAR_PLACEHOLDER_PREFIX,
    PLACEHOLDER_CAPTURE_REGEX,
    VARIABLE_PLACEHOLDER_PREFIX,
)

from workpool_operator.errors import RenderError
from workpool_operator.jobs import references

_LIVE_IN_VALUES = (BLOCK_DOCUMENT_PLACEHOLDER_PREFIX, VARIABLE_PLACEHOLDER_PREFIX)
_OPEN = "{{"
MOST_CHARACTERS = 8 << 20
_WORK = 16  # characters that are only scanned cost less than those that are written
# Cannot be guessed, so it is in no user's text; printable, so `repr` of a mapping keeps it.
_ESCAPED = f"{{{secrets.token_hex(16)}{{"


def escape(values: Any) -> Any:
    """Return a copy of the values whose placeholders are not expanded; `unescape` undoes it."""
    return _mapped(values, lambda text: PLACEHOLDER_CAPTURE_REGEX.sub(_unless_live, text), _OPEN)


def unescape(document: Any) -> Any:
    """Return a copy of the document with the placeholders that `escape` hid."""
    return _mapped(document, lambda text: text.replace(_ESCAPED, _OPEN), _ESCAPED)


def without_environment(template: Any, *, but: Collection[str]) -> Any:
    """Return a copy of the template in which `{{ $NAME }}` is empty unless `but` has the name."""

    def allowed(match: re.Match[str]) -> str:
        name = match[2]
        reads = name.startswith(ENV_VAR_PLACEHOLDER_PREFIX)
        return "" if reads and name.lstrip(ENV_VAR_PLACEHOLDER_PREFIX) not in but else match[1]

    return _mapped(template, lambda text: PLACEHOLDER_CAPTURE_REGEX.sub(allowed, text), _OPEN)


def with_value_in_texts(template: Any, name: str, value: str) -> Any:
    """Return a copy of the template with the value for the placeholder of that name wherever it is
    part of a longer string; a string that is only the placeholder is not changed."""

    def replaced(text: str) -> str:
        return text if single_placeholder(text) else PLACEHOLDER_CAPTURE_REGEX.sub(given, text)

    def given(match: re.Match[str]) -> str:
        return value if match[2] == name else match[1]

    return _mapped(template, replaced, _OPEN)


def single_placeholder(template: Any) -> str:
    """Return the name if the template is a single placeholder, else ""."""
    found = PLACEHOLDER_CAPTURE_REGEX.fullmatch(template) if isinstance(template, str) else None
    return found[2] if found else ""


def defaults(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of the variables that have one."""
    properties = variables.get("properties")
    return {
        name: schema["default"]
        for name, schema in (properties.items() if isinstance(properties, Mapping) else ())
        if isinstance(schema, Mapping) and schema.get("default") is not None
    }


def check_growth(configuration: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuse a template that would take too much memory or time: a large value in many places, or
    many placeholders in one long string, which Prefect replaces one by one.

    Raises:
        RenderError: the result would be larger than `MOST_CHARACTERS`.
    """
    text, size = json.dumps(configuration), len(json.dumps(values))
    if text.count(_OPEN) * (size + len(text)) <= MOST_CHARACTERS:
        return  # every usual template
    sizes = {name: len(json.dumps(value)) for name, value in values.items()}
    written = work = 0
    for _, part in references.placeholders(configuration):
        names = PLACEHOLDER_CAPTURE_REGEX.findall(part)
        written += sum(sizes.get(references.variable(name), 0) for _, name in names)
        work += len(set(names)) * len(part)
    if max(written, work / _WORK) > MOST_CHARACTERS:
        raise RenderError(
            "job_configuration",
            f"its placeholders expand to more than {MOST_CHARACTERS >> 20} MiB; Kubernetes stores "
            "objects of at most 1.5 MiB",
        )


def _unless_live(match: re.Match[str]) -> str:
    return match[1] if match[2].startswith(_LIVE_IN_VALUES) else match[1].replace(_OPEN, _ESCAPED)


def _mapped(document: Any, change: Callable[[str], str], marker: str) -> Any:
    """Return a copy of a JSON document with `change` applied to strings that contain `marker`."""
    if isinstance(document, str):
        return change(document) if marker in document else document
    if isinstance(document, Mapping):
        return {key: _mapped(value, change, marker) for key, value in document.items()}
    if isinstance(document, list):
        return [_mapped(item, change, marker) for item in document]
    return document
