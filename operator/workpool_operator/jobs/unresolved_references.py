"""Locates a block or variable that could not be resolved, or a dotted key that does not fit. Pure.

Prefect reports what is wrong, but not where.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from workpool_operator.jobs import references
from workpool_operator.jobs.field_errors import Path, format_path, get_path
from workpool_operator.jobs.inputs import RenderInput

_PREFIX = re.compile(r"^job_configuration: (?:\w+: )?")
_REFERENCE = "a reference to a block has the form {$ref: {block_document_id: ID}}"


def locate_reference(text: str, render_input: RenderInput) -> str:
    """Return the error with the path of its reference; unchanged if that is not found."""
    problem = _PREFIX.sub("", text)
    for name in render_input.job_variables:
        if repr(name.split(".")) in problem:
            return f"job variable {name}: {problem}"
    for where, document in _documents(render_input):
        for path, name in references.links(document):
            if not name:
                return f"{where}{_below(path)}: {_REFERENCE}"
            if _mentions(problem, name):
                return f"{where}{_below(path)}: {{{{ {name} }}}}: {problem}"
    return text


def _documents(render_input: RenderInput) -> Iterator[tuple[str, Any]]:
    template = render_input.pool.get("base_job_template")
    yield "job_configuration", get_path(template, references.MANIFEST[:1])
    for name, value in render_input.job_variables.items():
        yield f"job variable {name}", value


def _below(path: Path) -> str:
    text = format_path(path)
    return f".{text}" if text and not text.startswith("[") else text


def _mentions(problem: str, name: str) -> bool:
    block = name.split(".")[3:4]  # prefect.blocks.TYPE.NAME
    return name in problem or any(f"'{part}'" in problem for part in block)
