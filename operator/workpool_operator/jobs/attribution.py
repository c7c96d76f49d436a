"""Attributes errors of a manifest to the job variable and the document that set it. Pure.

It runs only when a run is about to crash, so it costs a good run nothing. Values from blocks are
never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from workpool_operator.errors import Cause, RenderError
from workpool_operator.jobs import environment, patches, references, value_schema
from workpool_operator.jobs.field_errors import FieldError, Path, format_path, get_path, parse_path
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.validation import ROOT

_SHOWN = 5
_PREFIX = re.compile(r"^job_configuration: (?:\w+: )?")
_REFERENCE = "a reference to a block has the form {$ref: {block_document_id: ID}}"
_COMES_FROM = "; the value comes from "
_ENVIRONMENT: Path = ("job_configuration", "env")
_MOST_ATTRIBUTED = 30  # attribution takes time, and few errors are shown


def invalid_manifest_message(errors: Iterable[FieldError], render_input: RenderInput) -> str:
    """List the errors of a run's manifest, each with the source of its value."""
    return _listed(
        f"{_masked(each, render_input)}{_origin(each.path, render_input, against=each.against)}"
        for each in errors
    )


def rejected_fields_message(causes: Iterable[Cause], render_input: RenderInput) -> str:
    """List the fields that the API server refuses, each with the source of its value."""
    return _listed(_refused(cause, render_input) for cause in causes)


def render_error_message(error: RenderError, render_input: RenderInput) -> str:
    """Explain why rendering failed, where, and which job variables are invalid."""
    path = parse_path(error.path)
    text = f"{error}{_origin(path, render_input)}"
    if path == references.MANIFEST[:1]:
        text = _locate_reference(str(error), render_input)
    elif _is_secret(path, render_input):
        text = f"{error.path}: the value of a block does not fit here{_origin(path, render_input)}"
    return ". ".join(
        part for part in (text.rstrip(". "), invalid_variables_message(render_input)) if part
    )


def template_path(path: Path) -> Path:
    """Return the path in the template for a path in the manifest; any other path unchanged."""
    return (*references.MANIFEST, *path[1:]) if path[:1] == ROOT else path


def patch_behind(path: Path, render_input: RenderInput) -> str:
    """Return the patch of the binding that set the value at the path in the template; "" if none
    did."""
    depth = len(references.MANIFEST)
    if path[:depth] != references.MANIFEST:
        return ""
    return patches.setter(path[depth:], render_input.overlay.patches)


def invalid_variables_message(render_input: RenderInput) -> str:
    """List the job variables that do not match the schema of the pool's variables."""
    return _listed(_invalid_variables(render_input))


def _listed(sentences: Iterable[str]) -> str:
    left = iter(sentences)
    each = list(dict.fromkeys(islice(left, _MOST_ATTRIBUTED)))
    more = f". And {len(each) - _SHOWN} more errors" if len(each) > _SHOWN else ""
    more = ". And many more errors" if next(left, None) is not None else more
    return ". ".join(each[:_SHOWN]) + more


def _refused(cause: Cause, render_input: RenderInput) -> str:
    path = (*ROOT, *parse_path(cause.field))
    message = "the value is invalid" if _is_secret(path, render_input) else cause.message
    return f"{format_path(path)}: {message}{_origin(path, render_input)}"


def _masked(error: FieldError, render_input: RenderInput) -> FieldError:
    return replace(error, is_secret=True) if _is_secret(error.path, render_input) else error


def _is_secret(path: Path, render_input: RenderInput) -> bool:
    """Return whether a part of the value can come from a block."""
    return any(
        name.startswith("prefect.blocks.")
        or _holds_block(_value(references.variable(name), render_input))
        for name in _names(path, render_input)
    )


def _names(path: Path, render_input: RenderInput) -> list[str]:
    """Return the placeholders behind a path of the manifest or of another configuration field."""
    return sorted(references.names_behind(render_input.template, template_path(path)))


def _holds_block(value: Any) -> bool:
    return any(not name.startswith("prefect.variables.") for _, name in references.links(value))


def _origin(path: Path, render_input: RenderInput, *, against: Path = ()) -> str:
    """Return the source of the value at the path, as the end of a sentence."""
    if patch := patch_behind(template_path(path), render_input):
        return f"{_COMES_FROM}{patch} of the binding"
    if path[:2] == _ENVIRONMENT and (
        source := _environment_variable_set_by(".".join(map(str, path[2:])), render_input)
    ):
        return f"{_COMES_FROM}job variable env of {source}"
    if names := [*_names(path, render_input), *_names(against, render_input)]:
        return _COMES_FROM + " and ".join(_source(name, render_input) for name in names)
    is_fixed = len(path) > 1 and get_path(render_input.template, template_path(path)) is not None
    return "; the value is hard-coded in the pool's base job template" if is_fixed else ""


def _environment_variable_set_by(name: str, render_input: RenderInput) -> str:
    """Return who sets an environment variable: the run, the deployment, or ""."""
    for document, source in (
        (render_input.run, "the flow run"),
        (render_input.deployment, "the deployment"),
    ):
        given = environment.collect_env((document or {}).get("job_variables") or {}).get("env")
        if isinstance(given, Mapping) and name in given:
            return source
    return ""


def _source(name: str, render_input: RenderInput) -> str:
    if name.startswith(references.ELSEWHERE):
        why = references.why_empty(name, render_input.template_environment)
        return f"{{{{ {name} }}}} in the pool's base job template{f', which {why}' if why else ''}"
    variable = references.variable(name)
    if source := _set_by(variable, render_input):
        return f"job variable {variable} of {source}"
    if references.default(render_input.template, variable) is not None:
        return f"the pool's default of job variable {variable}"
    return f"job variable {variable}, which is not set"


def _set_by(variable: str, render_input: RenderInput) -> str:
    """Return who sets a job variable, the run before the deployment; "" if neither does."""
    for document, source in (
        (render_input.run, "the flow run"),
        (render_input.deployment, "the deployment"),
    ):
        given = (document or {}).get("job_variables") or {}
        if any(references.variable(name) == variable for name in given):
            return source
    return ""


def _value(variable: str, render_input: RenderInput) -> Any:
    given = [v for k, v in render_input.job_variables.items() if references.variable(k) == variable]
    return given or references.default(render_input.template, variable)


def _invalid_variables(render_input: RenderInput) -> Iterator[str]:
    variables = render_input.template.get("variables")
    for name, value in render_input.job_variables.items():
        schema = references.schemas(render_input.template).get(name)
        if name == "env" or not isinstance(schema, Mapping) or _holds_block(value):
            continue  # an environment becomes strings; the value of a block is not known here
        if wanted := value_schema.expected_value(value, schema, root=variables):
            error = FieldError((), value, f"{wanted} (the pool's schema)")
            yield f"job variable {name} of {_set_by(name, render_input)}: {error.problem}"


# Prefect reports which block or variable it could not resolve, but not where


def _locate_reference(text: str, render_input: RenderInput) -> str:
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
    yield "job_configuration", get_path(render_input.template, references.MANIFEST[:1])
    for name, value in render_input.job_variables.items():
        yield f"job variable {name}", value


def _below(path: Path) -> str:
    text = format_path(path)
    return f".{text}" if text and not text.startswith("[") else text


def _mentions(problem: str, name: str) -> bool:
    block = name.split(".")[3:4]  # prefect.blocks.TYPE.NAME
    return name in problem or any(f"'{part}'" in problem for part in block)
