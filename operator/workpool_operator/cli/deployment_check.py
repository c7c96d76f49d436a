"""Checks the job variables of a `prefect.yaml` against the templates of its work pools.

`prefect deploy` resolves placeholders in the file: values with one are not checked. Values of
environment variables are never printed, because they can be secrets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from workpool_operator.cli import flow_run_documents, template_check
from workpool_operator.cli.binding_check import POOL_TYPES
from workpool_operator.cli.findings import Finding
from workpool_operator.cli.flow_run_documents import RunSelector
from workpool_operator.cli.redacting_client import RedactingClient
from workpool_operator.cli.redaction import Redaction
from workpool_operator.errors import OperatorError, RenderError
from workpool_operator.jobs import attribution, references, validation
from workpool_operator.jobs.attribution import template_path
from workpool_operator.jobs.field_errors import Path, get_path, parse_path
from workpool_operator.jobs.ineffective_variables import OF_THE_STOCK_WORKER, ineffective_variables
from workpool_operator.jobs.inputs import NAMESPACE, RenderInput
from workpool_operator.jobs.render import render_manifest
from workpool_operator.jobs.template_validation import template_errors

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_NAME: Path = ("work_pool", "name")
_VARIABLES: Path = ("work_pool", "job_variables")
_ENV = "env"
_WHERE_NAMESPACE = (
    "has an effect only if spec.jobs.allowedNamespaces of the binding lists it; else Jobs are "
    "created in spec.jobs.namespace"
)

Object = Mapping[str, Any]
#: Returns the work pool of that name, "" if the deployment names none, with its template.
PoolReader = Callable[[str], Object]


def check(project: Object, read_pool: PoolReader) -> Iterator[Finding]:
    """Yield every error and warning of all deployments."""
    for index, deployment in enumerate(project["deployments"]):
        prefix: Path = ("deployments", index)
        if not isinstance(deployment, Mapping):
            yield Finding(prefix, "must be a mapping with name, entrypoint and work_pool")
            continue
        yield from (each.under(prefix) for each in _check_deployment(deployment, read_pool))


def _check_deployment(deployment: Object, read_pool: PoolReader) -> Iterator[Finding]:
    given = get_path(deployment, _VARIABLES) or {}
    if not isinstance(given, Mapping):
        yield Finding(_VARIABLES, "must be a mapping of job variables")
        return
    name = get_path(deployment, _NAME) or ""
    if not (name or given):
        return  # `prefect deploy` asks for the pool, and there is nothing to check
    if references.is_placeholder(name):
        text = f"{name!r} is resolved by `prefect deploy`, so the job variables are not checked"
        yield Finding(_NAME, f"{text}: add --template FILE", "warning")
        return
    try:
        pool = read_pool(str(name))
    except OperatorError as error:
        yield Finding(_NAME if name else _NAME[:1], str(error))
        return
    if pool["type"] not in POOL_TYPES:
        text = f"work pool {name!r} has type {pool['type']!r}, so no binding serves it: not checked"
        yield Finding(_NAME, text, "warning")
        return
    template = pool.get("base_job_template")
    if not isinstance(template, Mapping) or (errors := template_errors(template)):
        text = "" if not isinstance(template, Mapping) else f": {errors[0]}"
        yield Finding(_NAME, f"the base job template of work pool {name!r} is not valid{text}")
        return
    yield from (finding.under(_VARIABLES) for finding in check_variables(given, pool, str(name)))


def check_variables(given: Object, pool: Object, name: str) -> Iterator[Finding]:
    """Yield every error and warning of a deployment's job variables."""
    template: Object = pool["base_job_template"]
    yield from _missing(given, template, name)
    wrong = list(_wrong_types(given, template))
    yield from wrong
    faulty = {finding.path[0] for finding in wrong}
    right = {key: value for key, value in given.items() if key not in faulty}
    try:
        _ = _render_input(right, pool).job_variables
    except RenderError as refusal:
        yield Finding((_ENV,), str(refusal))
        del right[_ENV]
    yield from _without_effect(right, pool)
    yield from _crashes({k: v for k, v in right.items() if not _is_resolved_later(v)}, pool)


def _missing(given: Object, template: Object, name: str) -> Iterator[Finding]:
    required = get_path(template, ("variables", "required"))
    for variable in required if isinstance(required, list) else ():
        if variable not in given and references.default(template, variable) is None:
            yield Finding((), f"{variable} is required by the template of work pool {name!r}")


def _wrong_types(given: Object, template: Object) -> Iterator[Finding]:
    schemas = references.schemas(template)
    for name, value in given.items():
        schema = schemas.get(name)
        if not isinstance(schema, Mapping) or value is None or _is_resolved_later(value):
            continue
        yield from template_check.mismatches(
            value, schema, get_path(template, ("variables",)), (name,)
        )


def _without_effect(given: Object, pool: Object) -> Iterator[Finding]:
    """Yield an error for an unknown variable, and a warning for a known one without effect."""
    template = pool["base_job_template"]
    declared = set(references.schemas(template)) | OF_THE_STOCK_WORKER
    for found in ineffective_variables(_render_input(given, pool)):
        name = references.variable(str(found.path[0]))
        if name in declared:
            yield Finding(found.path, found.message, "warning")
        else:
            why = found.message.removeprefix("has no effect: ")
            yield Finding(found.path, f"unknown job variable: {why}")
    if given.get(NAMESPACE):
        yield Finding((NAMESPACE,), _WHERE_NAMESPACE, "warning")


def _crashes(given: Object, pool: Object) -> Iterator[Finding]:
    """Render a run of the deployment, and yield what makes it crash."""
    render_input = _render_input(given, pool)
    client = cast("PrefectClient", RedactingClient(None, Redaction()))
    try:
        job = asyncio.run(render_manifest(render_input, template_check.IDENTITY, client=client))
    except RenderError as refusal:
        path = template_path(parse_path(refusal.path))
        if len(path) > 1:  # else it is a block or a variable, which only a server has
            text = attribution.render_error_message(refusal, render_input)
            yield _crash(path, text, given, pool)
        return
    for error in validation.find_errors(job):
        text = attribution.invalid_manifest_message([error], render_input)
        yield _crash(template_path(error.path), text, given, pool)


def _crash(path: Path, text: str, given: Object, pool: Object) -> Finding:
    """Return the finding at the variable that is behind the path of the template, if one is."""
    behind = references.names_behind(pool["base_job_template"], path)
    names = sorted({references.variable(name) for name in behind} & set(given))
    return Finding((names[0],) if names else (), f"a run crashes: {text}")


def _render_input(given: Object, pool: Object) -> RenderInput:
    selector = RunSelector(template=pool["base_job_template"], variables=given)
    return flow_run_documents.sample_input(selector)


def _is_resolved_later(value: Any) -> bool:
    """Return whether the value, or a part of it, is known only when it is deployed or run."""
    return any(True for _ in references.links(value)) or bool(
        next(references.placeholders(value), None)
    )
