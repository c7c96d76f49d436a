"""Checks a base job template before any run uses it.

Finds the errors that the operator finds in a pool's template (`jobs.template_validation`), what
Prefect's server refuses, and variables that have no effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from jsonschema import Draft202012Validator, ValidationError
from referencing.exceptions import Unresolvable

from workpool_operator import settings
from workpool_operator.binding import template_findings
from workpool_operator.binding.template_findings import TemplateFindings
from workpool_operator.cli import flow_run_documents
from workpool_operator.cli.credential_names import is_credential
from workpool_operator.cli.findings import Finding
from workpool_operator.cli.flow_run_documents import SAMPLE_ID, RunSelector
from workpool_operator.cli.redacting_client import RedactingClient
from workpool_operator.cli.redaction import Redaction
from workpool_operator.errors import RenderError
from workpool_operator.jobs import validation
from workpool_operator.jobs.attribution import template_path
from workpool_operator.jobs.field_errors import FieldError, FieldWarning, Path, parse_path
from workpool_operator.jobs.ineffective_variables import OF_THE_STOCK_WORKER
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.references import is_placeholder, schemas, used_variables
from workpool_operator.jobs.render import render_manifest
from workpool_operator.jobs.template_validation import template_errors, template_warnings
from workpool_operator.suggestions import did_you_mean

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_PARTS = ("job_configuration", "variables")
_PROPERTIES: Path = ("variables", "properties")
IDENTITY = Identity(SAMPLE_ID, SAMPLE_ID, SAMPLE_ID, "", "", "", "default")
_NO_SERVER = RedactingClient(None, Redaction())
_META = Draft202012Validator(Draft202012Validator.META_SCHEMA)


def check(template: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield every error and warning of the template."""
    for key in template:
        if key not in _PARTS:
            text = f"unknown field{did_you_mean(key, _PARTS)}"
            yield Finding((key,), text, "warning")
    errors = template_errors(template)
    yield from map(Finding.of, errors)
    if "variables" not in template:  # Prefect's server refuses it
        yield Finding(("variables",), "is required: a JSON schema, at least {properties: {}}")
    if any(len(error.path) < 2 for error in errors):
        return  # job_configuration or variables is missing
    readable = settings.template_environment()
    yield from map(_warning, template_warnings(template, template_environment=readable))
    yield from _unused(template)
    yield from _check_schemas(template)


def check_default_run(template: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what crashes a run that sets no job variable, if the template itself has no error."""
    if template_errors(template):
        return
    render_input = flow_run_documents.sample_input(RunSelector(template=template))
    try:
        job = asyncio.run(
            render_manifest(render_input, IDENTITY, client=cast("PrefectClient", _NO_SERVER))
        )
    except RenderError as refusal:
        path = template_path(parse_path(refusal.path))
        if len(path) > 1:  # else it is a block or a variable, which only a server has
            yield from _crashes(path, template_findings.from_error(refusal, render_input))
        return
    except RecursionError:
        yield Finding(("job_configuration",), "is nested too deeply to be rendered")
        return
    for error in validation.find_errors(job):
        yield from _crashes(
            template_path(error.path),
            template_findings.from_errors([error], render_input),
        )


def _crashes(path: Path, seen: TemplateFindings) -> Iterator[Finding]:
    for text in (*seen.faults, *seen.crashes):
        _, _, problem = text.partition(": ")
        yield Finding(path, f"a run that sets no job variable crashes: {problem}")


def _warning(found: FieldError | FieldWarning) -> Finding:
    """Return a warning; an error for a placeholder without a variable, as in Prefect's server."""
    if isinstance(found, FieldWarning):
        return Finding(found.path, found.message, "warning")
    return Finding.of(found, "error" if is_placeholder(found.value) else "warning")


def _unused(template: Mapping[str, Any]) -> Iterator[Finding]:
    used = used_variables(template) | OF_THE_STOCK_WORKER
    for name in schemas(template):
        if name not in used:
            text = "is not used in job_configuration and has no effect"
            yield Finding((*_PROPERTIES, name), text, "warning")


def _check_schemas(template: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that each variable has a valid schema and a default that matches it."""
    for name, schema in schemas(template).items():
        if not isinstance(schema, Mapping):
            continue  # `template_errors` reports it
        path = (*_PROPERTIES, name)
        errors = list(_META.iter_errors(schema))
        for error in errors:
            yield Finding((*path, *error.absolute_path), f"is not a JSON schema: {error.message}")
        if not errors and schema.get("default") is not None:
            yield from _check_default(schema, template["variables"], path)


def _check_default(
    schema: Mapping[str, Any], variables: Mapping[str, Any], path: Path
) -> Iterator[Finding]:
    default = schema["default"]
    return mismatches(default, schema, variables, (*path, "default"), reference_path=path)


def mismatches(
    value: Any,
    schema: Mapping[str, Any],
    variables: Mapping[str, Any],
    path: Path,
    *,
    reference_path: Path | None = None,
) -> Iterator[Finding]:
    """Yield where the value at the path does not match the schema of its variable.

    `variables` has the definitions that the schema refers to; a reference to an undefined one is
    reported at `reference_path`.
    """
    definitions = {key: variables[key] for key in ("definitions", "$defs") if key in variables}
    try:
        for error in Draft202012Validator({**definitions, **schema}).iter_errors(value):
            if not _is_resolved_later(error.instance):
                where = (*path, *error.absolute_path)
                text = f"does not match the variable's schema: {_message(error, where)}"
                yield Finding(where, text)
    except Unresolvable as error:
        text = f"refers to {error.ref!r}, which is not defined in variables"
        yield Finding(path if reference_path is None else reference_path, text)


def _is_resolved_later(value: Any) -> bool:
    """Return whether the value refers to a block or a Prefect variable, unknown offline."""
    return is_placeholder(value) or (isinstance(value, Mapping) and "$ref" in value)


def _message(error: ValidationError, path: Path) -> str:
    """Return the validator's message, without the value if that can be a credential."""
    if "env" in path or any(is_credential(str(part)) for part in path):
        return f"{error.validator} {error.validator_value!r}"
    return error.message if len(error.message) <= 200 else f"{error.message[:197]}..."
