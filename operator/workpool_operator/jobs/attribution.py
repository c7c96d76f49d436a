"""Whose a fault in a run's manifest is: the job variable behind each place, and who gave it. Pure.

Runs only when a run is about to crash: the way of a good run stays as it is. What comes from a
block is never shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from workpool_operator.errors import Cause, RenderError
from workpool_operator.jobs import environment, references, value_schema
from workpool_operator.jobs.field_errors import FieldError, Path, format_path, get_path, parse_path
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.unresolved_references import locate_reference
from workpool_operator.jobs.validation import ROOT

_SHOWN = 5
_ENVIRONMENT: Path = ("job_configuration", "env")
_LOOKED_AT = 30  # whose a fault is takes time to find out, and nobody reads so many


def invalid_manifest_message(faults: Iterable[FieldError], render_input: RenderInput) -> str:
    """The faults of a run's manifest, each with where its value comes from."""
    return _listed(
        f"{_masked(each, render_input)}{_origin(each.path, render_input, against=each.against)}"
        for each in faults
    )


def rejected_fields_message(causes: Iterable[Cause], render_input: RenderInput) -> str:
    """The same, of the places that the API server refuses."""
    return _listed(_refused(cause, render_input) for cause in causes)


def render_error_message(error: RenderError, render_input: RenderInput) -> str:
    """Why nothing can be rendered, where, and which job variables are not what they should be."""
    path = parse_path(error.path)
    text = f"{error}{_origin(path, render_input)}"
    if path == references.MANIFEST[:1]:
        text = locate_reference(str(error), render_input)
    elif _is_secret(path, render_input):
        text = f"{error.path}: what a block gives does not fit here{_origin(path, render_input)}"
    return ". ".join(
        part for part in (text.rstrip(". "), invalid_variables_message(render_input)) if part
    )


def template_path(path: Path) -> Path:
    """A path of the manifest as one of the template that it came from; any other as it is."""
    return (*references.MANIFEST, *path[1:]) if path[:1] == ROOT else path


def invalid_variables_message(render_input: RenderInput) -> str:
    """The job variables that are not what the schema of the pool's variables asks for."""
    return _listed(_invalid_variables(render_input))


def _listed(sentences: Iterable[str]) -> str:
    left = iter(sentences)
    each = list(dict.fromkeys(islice(left, _LOOKED_AT)))
    more = f". And {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    more = ". And many more" if next(left, None) is not None else more
    return ". ".join(each[:_SHOWN]) + more


def _refused(cause: Cause, render_input: RenderInput) -> str:
    path = (*ROOT, *parse_path(cause.field))
    message = "is refused" if _is_secret(path, render_input) else cause.message
    return f"{format_path(path)}: {message}{_origin(path, render_input)}"


def _masked(fault: FieldError, render_input: RenderInput) -> FieldError:
    return replace(fault, is_secret=True) if _is_secret(fault.path, render_input) else fault


def _is_secret(path: Path, render_input: RenderInput) -> bool:
    """A block may have a part in the value."""
    return any(
        name.startswith("prefect.blocks.")
        or _holds_block(_value(references.variable(name), render_input))
        for name in _names(path, render_input)
    )


def _names(path: Path, render_input: RenderInput) -> list[str]:
    """The placeholders behind a path of the manifest, or of the fields beside it."""
    return sorted(references.names_behind(_template(render_input), template_path(path)))


def _holds_block(value: Any) -> bool:
    return any(not name.startswith("prefect.variables.") for _, name in references.links(value))


def _origin(path: Path, render_input: RenderInput, *, against: Path = ()) -> str:
    """Where the value at the path comes from, as the end of a sentence."""
    if path[:2] == _ENVIRONMENT and (
        giver := _environment_variable_set_by(".".join(map(str, path[2:])), render_input)
    ):
        return f"; it comes from job variable env of {giver}"
    if names := [*_names(path, render_input), *_names(against, render_input)]:
        return "; it comes from " + " and ".join(_source(name, render_input) for name in names)
    is_fixed = len(path) > 1 and get_path(_template(render_input), template_path(path)) is not None
    return "; it is fixed in the pool's base job template" if is_fixed else ""


def _environment_variable_set_by(name: str, render_input: RenderInput) -> str:
    """Who sets a variable of the environment; "" where neither the run nor the deployment does."""
    for document, giver in (
        (render_input.run, "the flow run"),
        (render_input.deployment, "the deployment"),
    ):
        given = environment.collect_env((document or {}).get("job_variables") or {}).get("env")
        if isinstance(given, Mapping) and name in given:
            return giver
    return ""


def _source(name: str, render_input: RenderInput) -> str:
    if name.startswith(references.ELSEWHERE):
        why = references.why_empty(name, render_input.template_environment)
        return f"{{{{ {name} }}}} in the pool's base job template{f', which {why}' if why else ''}"
    variable = references.variable(name)
    if giver := _set_by(variable, render_input):
        return f"job variable {variable} of {giver}"
    if references.default(_template(render_input), variable) is not None:
        return f"the pool's default of job variable {variable}"
    return f"job variable {variable}, which is not set"


def _set_by(variable: str, render_input: RenderInput) -> str:
    """Who sets a job variable; where both do, the run wins."""
    for document, giver in (
        (render_input.run, "the flow run"),
        (render_input.deployment, "the deployment"),
    ):
        given = (document or {}).get("job_variables") or {}
        if any(references.variable(name) == variable for name in given):
            return giver
    return ""


def _value(variable: str, render_input: RenderInput) -> Any:
    given = [v for k, v in render_input.job_variables.items() if references.variable(k) == variable]
    return given or references.default(_template(render_input), variable)


def _invalid_variables(render_input: RenderInput) -> Iterator[str]:
    variables = _template(render_input).get("variables")
    for name, value in render_input.job_variables.items():
        schema = references.schemas(_template(render_input)).get(name)
        if name == "env" or not isinstance(schema, Mapping) or _holds_block(value):
            continue  # an environment is made text of, a block's value is not known here
        if wanted := value_schema.expected_value(value, schema, root=variables):
            where = f"job variable {name} of {_set_by(name, render_input)}"
            yield f"{where}: {FieldError((), value, f'{wanted}, as the pool asks').problem}"


def _template(render_input: RenderInput) -> Mapping[str, Any]:
    template = render_input.pool.get("base_job_template")
    return template if isinstance(template, Mapping) else {}
