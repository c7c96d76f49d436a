"""What is wrong with a base job template before any run meets it.

Faults of the manifest are those that the operator finds in a pool's template (`jobs.template`); to
them come what Prefect's server refuses, and variables that nobody can use as they were meant.
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
from workpool_operator.cli import run_documents
from workpool_operator.cli.credential_names import is_credential
from workpool_operator.cli.findings import Finding
from workpool_operator.cli.redacting_client import RedactingClient
from workpool_operator.cli.redaction import Redaction
from workpool_operator.cli.run_documents import SAMPLE_ID, RunSelector
from workpool_operator.errors import RenderError
from workpool_operator.jobs import validation
from workpool_operator.jobs.attribution import template_path
from workpool_operator.jobs.field_errors import FieldError, FieldWarning, Path, parse_path
from workpool_operator.jobs.ineffective_variables import OF_THE_STOCK_WORKER
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.references import is_placeholder, schemas, used_variables
from workpool_operator.jobs.render import render_manifest
from workpool_operator.jobs.template_validation import template_errors, template_warnings
from workpool_operator.suggestions import did_you_mean

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_PARTS = ("job_configuration", "variables")
_PROPERTIES: Path = ("variables", "properties")
_IDENTITY = Identity(SAMPLE_ID, SAMPLE_ID, SAMPLE_ID, "", "", "", "default")
_NO_SERVER = RedactingClient(None, Redaction())
_META = Draft202012Validator(Draft202012Validator.META_SCHEMA)


def check(template: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that is wrong with the template, and what is doubtful."""
    for key in template:
        if key not in _PARTS:
            text = f"is no part of a base job template{did_you_mean(key, _PARTS)}"
            yield Finding((key,), text, "warning")
    faults = template_errors(template)
    yield from map(Finding.of, faults)
    if "variables" not in template:  # Prefect's server refuses it
        yield Finding(("variables",), "is required: a JSON schema, {properties: {}} at least")
    if any(len(fault.path) < 2 for fault in faults):
        return  # without its halves there is nothing to look at
    readable = settings.template_environment()
    yield from map(_warning, template_warnings(template, template_environment=readable))
    yield from _unused(template)
    yield from _check_schemas(template)


def check_default_run(template: Mapping[str, Any]) -> Iterator[Finding]:
    """What crashes a run that sets no job variable, where the template is meant for such runs;
    nothing is said of one that has faults of its own."""
    if template_errors(template):
        return
    found = run_documents.sample_documents(RunSelector(template=template))
    render_input = RenderInput(
        found.run,
        found.flow,
        found.deployment,
        found.pool,
        worker_name="",
        template_environment=settings.template_environment(),
    )
    try:
        job = asyncio.run(
            render_manifest(render_input, _IDENTITY, client=cast("PrefectClient", _NO_SERVER))
        )
    except RenderError as error:
        path = template_path(parse_path(error.path))
        if len(path) > 1:  # else a block or variable, which only a server knows
            yield from _crashes(path, template_findings.from_error(error, render_input))
        return
    except RecursionError:
        yield Finding(("job_configuration",), "is nested more deeply than can be rendered")
        return
    for fault in validation.find_errors(job):
        yield from _crashes(
            template_path(fault.path), template_findings.from_errors([fault], render_input)
        )


def _crashes(path: Path, seen: TemplateFindings) -> Iterator[Finding]:
    for text in (*seen.faults, *seen.crashes):
        _, _, problem = text.partition(": ")
        yield Finding(path, f"a run that sets no job variable crashes: {problem}")


def _warning(doubt: FieldError | FieldWarning) -> Finding:
    """A placeholder of no variable is refused by Prefect's server; what else is doubtful, makes
    Jobs."""
    if isinstance(doubt, FieldWarning):
        return Finding(doubt.path, doubt.message, "warning")
    return Finding.of(doubt, "error" if is_placeholder(doubt.value) else "warning")


def _unused(template: Mapping[str, Any]) -> Iterator[Finding]:
    used = used_variables(template) | OF_THE_STOCK_WORKER
    for name in schemas(template):
        if name not in used:
            text = "is used nowhere in job_configuration: it has no effect"
            yield Finding((*_PROPERTIES, name), text, "warning")


def _check_schemas(template: Mapping[str, Any]) -> Iterator[Finding]:
    """Each variable's schema is one, and its default is what it asks for."""
    for name, schema in schemas(template).items():
        if not isinstance(schema, Mapping):
            continue  # told already
        path = (*_PROPERTIES, name)
        errors = list(_META.iter_errors(schema))
        for error in errors:
            yield Finding((*path, *error.absolute_path), f"is no JSON schema: {error.message}")
        if not errors and schema.get("default") is not None:
            yield from _check_default(schema, template["variables"], path)


def _check_default(
    schema: Mapping[str, Any], variables: Mapping[str, Any], path: Path
) -> Iterator[Finding]:
    definitions = {key: variables[key] for key in ("definitions", "$defs") if key in variables}
    try:
        for error in Draft202012Validator({**definitions, **schema}).iter_errors(schema["default"]):
            if not _is_resolved_later(error.instance):
                where = (*path, "default", *error.absolute_path)
                text = f"is not what the variable's schema asks for: {_message(error, where)}"
                yield Finding(where, text)
    except Unresolvable as error:
        yield Finding(path, f"refers to {error.ref!r}, which is not in variables")


def _is_resolved_later(value: Any) -> bool:
    """A reference to a block or a Prefect variable, whose value is not known here."""
    return is_placeholder(value) or (isinstance(value, Mapping) and "$ref" in value)


def _message(error: ValidationError, path: Path) -> str:
    """What the validator says, unless it would repeat a credential."""
    if any(is_credential(str(part)) for part in path):
        return f"{error.validator} {error.validator_value!r}"
    return error.message if len(error.message) <= 200 else f"{error.message[:197]}..."
