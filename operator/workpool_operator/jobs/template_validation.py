"""Finds errors of a base job template that do not depend on a run's values. Pure.

What only the API server can check is checked by `binding.template_dry_run`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from prefect.utilities.templating import BLOCK_DOCUMENT_PLACEHOLDER_PREFIX as _BLOCKS

from workpool_operator.jobs import ineffective_variables, manifest, validation
from workpool_operator.jobs.field_errors import MISSING, FieldError, FieldWarning, Path, get_path
from workpool_operator.jobs.placeholders import single_placeholder
from workpool_operator.jobs.references import (
    ELSEWHERE,
    MANIFEST,
    is_placeholder,
    names_in,
    placeholders,
    schemas,
    variable,
    why_empty,
)
from workpool_operator.kube import flow_container
from workpool_operator.suggestions import did_you_mean

_CONFIGURATION = MANIFEST[:1]
_BLOCK = "{{ prefect.blocks.TYPE.NAME }}, with the block's type and name"
_POD: Path = (*MANIFEST, "spec", "template", "spec")
_CONTAINERS: Path = (*_POD, "containers")
_SHELL = re.compile(r"(?:\S*/)?\w*sh(?: -\w+)* -\w*c")
_CONVERTED = ("labels", "annotations")  # rendering converts their values to strings
_MISPLACED = ("parallelism", "completions")  # rendering moves them to where they belong


def template_errors(template: Any) -> list[FieldError]:
    """Return why the template cannot give a Job that could start. What a run's values decide is not
    reported."""
    if not isinstance(template, Mapping):
        return [FieldError((), template, "a mapping with job_configuration and variables")]
    return [*_of_variables(template), *_of_configuration(template)]


def refused_by_prefect(template: Mapping[str, Any]) -> list[FieldError]:
    """Return why Prefect's server would refuse to store the template: it requires both halves, and
    a variable of exactly that name for each placeholder."""
    expected = "a mapping with at least one item, which Prefect requires"
    halves = ("job_configuration", "variables")
    if missing := [key for key in halves if not template.get(key)]:
        return [FieldError((key,), template.get(key, MISSING), expected) for key in missing]
    known = schemas(template).keys()
    return [
        FieldError(
            path,
            text,
            f"a variable that the template declares{did_you_mean(variable(name), known)}",
        )
        for path, text in placeholders(template["job_configuration"], _CONFIGURATION)
        for name in sorted(names_in(text))
        if name not in known
    ]


def template_warnings(
    template: Mapping[str, Any],
    *,
    template_environment: Collection[str] = (),
    has_allowed_namespaces: bool = False,
) -> Iterator[FieldError | FieldWarning]:
    """Yield what its author probably meant otherwise, although Jobs can be created: placeholders
    without a variable, which Prefect's server refuses, values without effect, and fields that the
    API server drops."""
    known = schemas(template).keys()
    for path, text in placeholders(get_path(template, _CONFIGURATION), _CONFIGURATION):
        for name in sorted(names_in(text)):
            if not name.startswith(ELSEWHERE) and variable(name) not in known:
                yield FieldError(
                    path, text, f"a variable that the template declares{did_you_mean(name, known)}"
                )
            elif why := why_empty(name, template_environment):
                yield FieldWarning(path, f"{{{{ {name} }}}} {why}")
    yield from ineffective_variables.ineffective_in_template(
        template, has_allowed_namespaces=has_allowed_namespaces
    )
    yield from _of_shell(get_path(template, MANIFEST))
    for path in validation.unknown_fields(get_path(template, MANIFEST), root=MANIFEST):
        if path[-1] not in _MISPLACED:
            yield FieldError(path, path[-1], "a field of a Job (Kubernetes drops unknown fields)")


def _of_shell(job: Any) -> Iterator[FieldWarning]:
    """Warn if the entrypoint is a shell, which takes only one argument as its script."""
    index = manifest.flow_container_index(job)
    containers = _items(job, "containers")
    flow = containers[index] if index < len(containers) else None
    command, args = get_path(flow, ("command",)), get_path(flow, ("args",))
    if (
        not isinstance(command, list)
        or not command
        or not _SHELL.fullmatch(" ".join(map(str, command)))
    ):
        return
    if args is None or isinstance(args, str):
        problem = "the shell uses only the first word as its script"
    elif args and single_placeholder(args[0]) == "command":
        problem = "args is empty unless a run sets the job variable command"
    else:
        return
    fix = 'write a list with one longer string, such as ["exec {{ command }}"]'
    where = (*_CONTAINERS, index, "command" if args is None else "args")
    yield FieldWarning(
        where, f"{problem}: {fix}. In it, an unset command becomes `{manifest.COMMAND}`"
    )


def _of_variables(template: Mapping[str, Any]) -> Iterator[FieldError]:
    variables = template.get("variables")
    if variables is None:
        return
    if not isinstance(variables, Mapping):
        yield FieldError(("variables",), variables, "a JSON schema")
    elif not isinstance(properties := variables.get("properties", {}), Mapping):
        yield FieldError(("variables", "properties"), properties, "a mapping of variables")
    else:
        for name, schema in properties.items():
            if not isinstance(schema, Mapping):
                yield FieldError(("variables", "properties", name), schema, "a JSON schema")


def _of_configuration(template: Mapping[str, Any]) -> Iterator[FieldError]:
    configuration = template.get("job_configuration", MISSING)
    if not isinstance(configuration, Mapping):
        yield FieldError(_CONFIGURATION, configuration, "a mapping with a job_manifest")
        return
    yield from _of_blocks(configuration)
    yield from _of_fields(configuration)
    job = configuration.get("job_manifest", MISSING)
    yield from _of_flow_container(job)
    flow = [(*_CONTAINERS, index) for index in _flow_containers(job)]
    for error in validation.find_errors(job, root=MANIFEST, is_opaque=is_placeholder):
        if not (_is_repaired(error) or any(_is_provided(error, container) for container in flow)):
            yield error


def _of_flow_container(job: Any) -> Iterator[FieldError]:
    """Report that rendering would run the flow in another container than the author meant."""
    init, containers = (_items(job, key) for key in ("initContainers", "containers"))
    for index, item in enumerate(init):
        if get_path(item, ("name",)) == flow_container.DEFAULT_NAME:
            where = (*_POD, "initContainers", index, "name")
            yield FieldError(
                where,
                flow_container.DEFAULT_NAME,
                "another name: this one is for the flow's container, in `containers`",
            )
    commanded = {index for index, item in enumerate(containers) if _takes_command(item)}
    flow = _flow_containers(job)
    if commanded and not commanded & flow:
        index, first = min(commanded), get_path(containers, (min(flow), "name"))
        expected = (
            f"{flow_container.DEFAULT_NAME!r}, because it has the command; without a container of "
            f"that name the flow runs in the first one, {first!r}"
        )
        yield FieldError(
            (*_CONTAINERS, index, "name"), get_path(containers, (index, "name")), expected
        )


def _takes_command(container: Any) -> bool:
    fields = [get_path(container, (key,)) for key in ("args", "command")]
    return "command" in map(variable, names_in(fields))


def _flow_containers(job: Any) -> set[int]:
    """Return where the flow's container can be: a run's values can add one with its name."""
    containers = _items(job, "containers")
    names = [get_path(item, ("name",)) for item in containers]
    if flow_container.DEFAULT_NAME in names or not any(map(is_placeholder, [*containers, *names])):
        return {manifest.flow_container_index(job)}
    return set(range(len(containers)))


def _items(job: Any, key: str) -> list[Any]:
    found = get_path(job, (*_POD[len(MANIFEST) :], key))
    return found if isinstance(found, list) else []


def _of_blocks(configuration: Mapping[str, Any]) -> Iterator[FieldError]:
    for path, text in placeholders(configuration, _CONFIGURATION):
        for name in names_in(text):
            kind, _, block = name.removeprefix(_BLOCKS).partition(".")
            if name.startswith(_BLOCKS) and not (kind and block):
                yield FieldError(path, text, _BLOCK)


def _of_fields(configuration: Mapping[str, Any]) -> Iterator[FieldError]:
    """Check the fields next to the manifest."""
    for key, types, expected in (
        ("labels", Mapping, "a mapping of names to strings"),
        ("annotations", Mapping, "a mapping of names to strings"),
        ("env", Mapping | list, "a mapping of names to values, or a list of {name, value}"),
    ):
        value = configuration.get(key, {})
        if not isinstance(value, types) and not is_placeholder(value):
            yield FieldError((*_CONFIGURATION, key), value, expected)
    yield from _of_env_names(configuration.get("env"))


def _of_env_names(env: Any) -> Iterator[FieldError]:
    names: Iterable[Any] = env if isinstance(env, Mapping) else ()
    for name in names:
        if not validation.is_env_name(str(name)):
            yield FieldError((*_CONFIGURATION, "env", name), name, validation.ENV_NAME)


def _is_repaired(error: FieldError) -> bool:
    """Return whether rendering repairs the value."""
    if error.value is MISSING and error.path == (*_POD, "restartPolicy"):
        return True
    return len(error.path) > 2 and error.path[-2] in _CONVERTED and "metadata" in error.path


def _is_provided(error: FieldError, container: Path) -> bool:
    """Return whether rendering sets the value, in the flow's container."""
    if error.value is MISSING and error.path in ((*container, "image"), (*container, "name")):
        return True
    if error.path == (*container, "env"):
        return isinstance(error.value, Mapping)  # replaced by the environment of the run
    return error.path[: len(container) + 1] == (*container, "args")
