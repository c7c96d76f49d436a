"""What is wrong with a base job template whatever a run's values are. Pure: what only the API
server sees, `binding.rehearsal` asks it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from prefect.utilities.templating import BLOCK_DOCUMENT_PLACEHOLDER_PREFIX as _BLOCKS

from workpool_operator.jobs import checks, effects, grammar, manifest
from workpool_operator.jobs.fault import MISSING, Fault, Path, Remark, at
from workpool_operator.jobs.placeholders import sole
from workpool_operator.jobs.references import (
    ELSEWHERE,
    MANIFEST,
    is_placeholder,
    names_in,
    placeholders,
    schemas,
    unread,
    variable,
)
from workpool_operator.kube import flow_container
from workpool_operator.suggestions import did_you_mean

_CONFIGURATION = MANIFEST[:1]
_BLOCK = "{{ prefect.blocks.TYPE.NAME }}, with the block's type and name"
_POD: Path = (*MANIFEST, "spec", "template", "spec")
_CONTAINERS: Path = (*_POD, "containers")
_SHELL = re.compile(r"(?:\S*/)?\w*sh(?: -\w+)* -\w*c")
_MADE_TEXT = ("labels", "annotations")
_MISPLACED = ("parallelism", "completions")  # rendering moves them to where they belong


def faults_of_template(template: Any) -> list[Fault]:
    """Why no Job, or none that could ever start, can come from the template; nothing is said of
    what a run's values decide."""
    if not isinstance(template, Mapping):
        return [Fault((), template, "a mapping with job_configuration and variables")]
    return [*_of_variables(template), *_of_configuration(template)]


def doubts_about_template(
    template: Mapping[str, Any], *, template_environment: Collection[str] = ()
) -> Iterator[Fault | Remark]:
    """What hardly is what its author meant, and yet makes Jobs: placeholders of no variable, which
    Prefect's server refuses, what has no effect, and fields that the API server drops."""
    known = schemas(template).keys()
    for path, text in placeholders(at(template, _CONFIGURATION), _CONFIGURATION):
        for name in sorted(names_in(text)):
            if not name.startswith(ELSEWHERE) and variable(name) not in known:
                yield Fault(path, text, f"a variable of the template{did_you_mean(name, known)}")
            elif why := unread(name, template_environment):
                yield Remark(path, f"{{{{ {name} }}}} {why}")
    yield from effects.in_template(template)
    yield from _of_shell(at(template, MANIFEST))
    for path in checks.unknown_fields(at(template, MANIFEST), root=MANIFEST):
        if path[-1] not in _MISPLACED:
            yield Fault(path, path[-1], "a field of a Job; Kubernetes drops this one")


def _of_shell(job: Any) -> Iterator[Remark]:
    """A shell that is the entrypoint takes one argument for its script."""
    index = manifest.position(job)
    containers = _items(job, "containers")
    flow = containers[index] if index < len(containers) else None
    command, args = at(flow, ("command",)), at(flow, ("args",))
    if (
        not isinstance(command, list)
        or not command
        or not _SHELL.fullmatch(" ".join(map(str, command)))
    ):
        return
    if args is None or isinstance(args, str):
        problem = "the shell takes the first word alone for its script"
    elif args and sole(args[0]) == "command":
        problem = "args is empty unless a run sets the job variable command"
    else:
        return
    fix = 'write a list of one longer text, such as ["exec {{ command }}"]'
    where = (*_CONTAINERS, index, "command" if args is None else "args")
    yield Remark(where, f"{problem}: {fix}, in which the command that is not set is Prefect's own")


def _of_variables(template: Mapping[str, Any]) -> Iterator[Fault]:
    variables = template.get("variables")
    if variables is None:
        return
    if not isinstance(variables, Mapping):
        yield Fault(("variables",), variables, "a JSON schema")
    elif not isinstance(properties := variables.get("properties", {}), Mapping):
        yield Fault(("variables", "properties"), properties, "a mapping of variables")
    else:
        for name, schema in properties.items():
            if not isinstance(schema, Mapping):
                yield Fault(("variables", "properties", name), schema, "a JSON schema")


def _of_configuration(template: Mapping[str, Any]) -> Iterator[Fault]:
    configuration = template.get("job_configuration", MISSING)
    if not isinstance(configuration, Mapping):
        yield Fault(_CONFIGURATION, configuration, "a mapping with a job_manifest")
        return
    yield from _of_blocks(configuration)
    yield from _of_fields(configuration)
    job = configuration.get("job_manifest", MISSING)
    yield from _of_flow_container(job)
    flow = [(*_CONTAINERS, index) for index in _flow_containers(job)]
    for fault in checks.faults(job, root=MANIFEST, opaque=is_placeholder):
        if not (_is_mended(fault) or any(_is_provided(fault, container) for container in flow)):
            yield fault


def _of_flow_container(job: Any) -> Iterator[Fault]:
    """Why rendering would fill in another container than the one that is meant to run the flow."""
    init, containers = (_items(job, key) for key in ("initContainers", "containers"))
    for index, item in enumerate(init):
        if at(item, ("name",)) == flow_container.DEFAULT_NAME:
            where = (*_POD, "initContainers", index, "name")
            yield Fault(where, flow_container.DEFAULT_NAME, "this name in `containers` alone")
    commanded = {index for index, item in enumerate(containers) if _takes_command(item)}
    flow = _flow_containers(job)
    if commanded and not commanded & flow:
        index, first = min(commanded), at(containers, (min(flow), "name"))
        expected = (
            f"{flow_container.DEFAULT_NAME!r}, for it takes the command; without a container of "
            f"that name the first one, {first!r}, is the flow's"
        )
        yield Fault((*_CONTAINERS, index, "name"), at(containers, (index, "name")), expected)


def _takes_command(container: Any) -> bool:
    fields = [at(container, (key,)) for key in ("args", "command")]
    return "command" in map(variable, names_in(fields))


def _flow_containers(job: Any) -> set[int]:
    """Where the flow's container may be; values may still bring one of its name."""
    containers = _items(job, "containers")
    names = [at(item, ("name",)) for item in containers]
    if flow_container.DEFAULT_NAME in names or not any(map(is_placeholder, [*containers, *names])):
        return {manifest.position(job)}
    return set(range(len(containers)))


def _items(job: Any, key: str) -> list[Any]:
    found = at(job, (*_POD[len(MANIFEST) :], key))
    return found if isinstance(found, list) else []


def _of_blocks(configuration: Mapping[str, Any]) -> Iterator[Fault]:
    for path, text in placeholders(configuration, _CONFIGURATION):
        for name in names_in(text):
            kind, _, block = name.removeprefix(_BLOCKS).partition(".")
            if name.startswith(_BLOCKS) and not (kind and block):
                yield Fault(path, text, _BLOCK)


def _of_fields(configuration: Mapping[str, Any]) -> Iterator[Fault]:
    """Of the fields beside the manifest."""
    for key, types, expected in (
        ("labels", Mapping, "a mapping of names to text"),
        ("annotations", Mapping, "a mapping of names to text"),
        ("env", Mapping | list, "a mapping, or a list as in Kubernetes"),
    ):
        value = configuration.get(key, {})
        if not isinstance(value, types) and not is_placeholder(value):
            yield Fault((*_CONFIGURATION, key), value, expected)
    yield from _of_env_names(configuration.get("env"))


def _of_env_names(env: Any) -> Iterator[Fault]:
    names: Iterable[Any] = env if isinstance(env, Mapping) else ()
    for name in names:
        if not grammar.is_env_name(str(name)):
            yield Fault((*_CONFIGURATION, "env", name), name, grammar.ENV_NAME)


def _is_mended(fault: Fault) -> bool:
    """Rendering makes a Job of it all the same."""
    if fault.value is MISSING and fault.path == (*_POD, "restartPolicy"):
        return True
    return len(fault.path) > 2 and fault.path[-2] in _MADE_TEXT and "metadata" in fault.path


def _is_provided(fault: Fault, container: Path) -> bool:
    """Rendering fills it in, in the flow's container."""
    if fault.value is MISSING and fault.path in ((*container, "image"), (*container, "name")):
        return True
    if fault.path == (*container, "env"):
        return isinstance(fault.value, Mapping)  # replaced by the environment of the run
    return fault.path[: len(container) + 1] == (*container, "args")
