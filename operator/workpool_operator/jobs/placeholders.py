"""What may be expanded in a template, and what never is.

Prefect's own functions expand placeholders; this module only decides what they get to see: a value
of a deployment or run is data, whatever it looks like, and of the process's own environment a
template reads what the settings allow. Prefect's references to blocks and variables stay live in
values, because that is how credentials reach a run.
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
_WORK = 16  # characters that are passed over cost less than those that are kept
# In no user's text, as nobody can guess it; printable, as Python escapes the rest in a mapping's.
_ESCAPED = f"{{{secrets.token_hex(16)}{{"


def escape(values: Any) -> Any:
    """A copy of the values whose placeholders stay as they are: `unescape` gives them back."""
    return _mapped(values, lambda text: PLACEHOLDER_CAPTURE_REGEX.sub(_unless_live, text), _OPEN)


def unescape(document: Any) -> Any:
    """A copy of the document without what `escape` did to its strings."""
    return _mapped(document, lambda text: text.replace(_ESCAPED, _OPEN), _ESCAPED)


def without_environment(template: Any, *, but: Collection[str]) -> Any:
    """A copy of the template whose `{{ $NAME }}` are empty unless the name is one of `but`."""

    def allowed(match: re.Match[str]) -> str:
        name = match[2]
        reads = name.startswith(ENV_VAR_PLACEHOLDER_PREFIX)
        return "" if reads and name.lstrip(ENV_VAR_PLACEHOLDER_PREFIX) not in but else match[1]

    return _mapped(template, lambda text: PLACEHOLDER_CAPTURE_REGEX.sub(allowed, text), _OPEN)


def with_value_in_texts(template: Any, name: str, value: str) -> Any:
    """A copy of the template that has the value for the placeholder of that name wherever it is a
    part of a longer text; one that stands alone stays."""

    def replaced(text: str) -> str:
        return text if single_placeholder(text) else PLACEHOLDER_CAPTURE_REGEX.sub(given, text)

    def given(match: re.Match[str]) -> str:
        return value if match[2] == name else match[1]

    return _mapped(template, replaced, _OPEN)


def single_placeholder(template: Any) -> str:
    """The name of the placeholder of which the template consists, "" where it is anything else."""
    found = PLACEHOLDER_CAPTURE_REGEX.fullmatch(template) if isinstance(template, str) else None
    return found[2] if found else ""


def defaults(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What each variable is where nobody sets it; those that are nothing are left out."""
    properties = variables.get("properties")
    return {
        name: schema["default"]
        for name, schema in (properties.items() if isinstance(properties, Mapping) else ())
        if isinstance(schema, Mapping) and schema.get("default") is not None
    }


def check_growth(configuration: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """A small template can ask for more than there is memory, or time: by a large value in many
    places, or by many placeholders in one long text, which Prefect replaces one after the other.

    Raises:
        RenderError: it does.
    """
    text, size = json.dumps(configuration), len(json.dumps(values))
    if text.count(_OPEN) * (size + len(text)) <= MOST_CHARACTERS:
        return  # as every honest template
    sizes = {name: len(json.dumps(value)) for name, value in values.items()}
    written = work = 0
    for _, part in references.placeholders(configuration):
        names = PLACEHOLDER_CAPTURE_REGEX.findall(part)
        written += sum(sizes.get(references.variable(name), 0) for _, name in names)
        work += len(set(names)) * len(part)
    if max(written, work / _WORK) > MOST_CHARACTERS:
        raise RenderError(
            "job_configuration",
            f"its placeholders make more than {MOST_CHARACTERS >> 20} MiB of it; Kubernetes takes "
            "objects of 1.5 MiB",
        )


def _unless_live(match: re.Match[str]) -> str:
    return match[1] if match[2].startswith(_LIVE_IN_VALUES) else match[1].replace(_OPEN, _ESCAPED)


def _mapped(document: Any, change: Callable[[str], str], marker: str) -> Any:
    """A copy of a JSON document with `change` applied to the strings that hold `marker`."""
    if isinstance(document, str):
        return change(document) if marker in document else document
    if isinstance(document, Mapping):
        return {key: _mapped(value, change, marker) for key, value in document.items()}
    if isinstance(document, list):
        return [_mapped(item, change, marker) for item in document]
    return document
